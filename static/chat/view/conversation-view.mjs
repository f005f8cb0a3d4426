// @ts-check
/** The conversation: welcome or exchanges, and staying at its end while the reader is there. */

import { canSend } from "../store.mjs";
import { byId, focusMessage, whenChanged } from "./dom.mjs";
import { createExchangeView } from "./exchange-view.mjs";

/**
 * @typedef {import("../types.mjs").Actions} Actions
 * @typedef {import("../types.mjs").State} State
 */

/** How far from the end, in pixels, still counts as being there. */
const END_PX = 48;

const DEMO_NOTE =
  "is a demo model: very small, trained for this project. It can do small talk, little stories, " +
  "sums, capitals and the terms of this field. It is not an assistant, and it can be wrong.";
const MODEL_NOTE = "runs in blocks on the servers above. Models make mistakes: check what matters.";

/**
 * Stays at the end of the conversation until the reader scrolls away from it.
 *
 * @param {HTMLElement} scroller
 * @param {HTMLElement} toEnd leads back
 */
function createFollower(scroller, toEnd) {
  let isFollowing = false;
  const follow = () => {
    if (isFollowing) scroller.scrollTop = scroller.scrollHeight;
  };
  /** @param {boolean} isOn */
  const setFollowing = (isOn) => {
    isFollowing = isOn;
    toEnd.hidden = isOn;
    follow();
  };
  scroller.addEventListener("scroll", () => {
    const belowPx = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    isFollowing = belowPx < END_PX;
    toEnd.hidden = isFollowing;
  });
  toEnd.addEventListener("click", () => setFollowing(true));
  new ResizeObserver(follow).observe(scroller); // a keyboard slides in, the message grows
  return {
    follow,
    goToEnd: () => setFollowing(true),
    goToStart() {
      isFollowing = false;
      scroller.scrollTop = 0;
      toEnd.hidden = true;
    },
  };
}

/** @param {State} state @returns {boolean} */
function isDemoChosen({ models, modelId }) {
  return models?.some((model) => model.id === modelId && model.isDemo) ?? false;
}

/**
 * @param {Actions} actions
 * @returns {(state: State) => void}
 */
export function createConversationView(actions) {
  const list = byId("exchanges", HTMLElement);
  const welcome = byId("welcome", HTMLElement);
  const name = byId("about-model-name", HTMLElement);
  const note = byId("about-model-note", HTMLElement);
  const toEnd = byId("to-end", HTMLButtonElement);
  const reader = createFollower(byId("conversation", HTMLElement), toEnd);
  /** @type {ReturnType<typeof createExchangeView>[]} */
  const views = [];
  const chips = welcome.querySelectorAll("button");
  for (const chip of chips) {
    const question = chip.textContent ?? "";
    chip.addEventListener("click", () => {
      actions.send(question);
      focusMessage(); // the chip is gone
    });
  }

  const about = whenChanged(
    (state) => [state.modelId, isDemoChosen(state)],
    (modelId, isDemo) => {
      name.textContent = modelId ?? "";
      note.textContent = modelId === null ? "" : isDemo ? DEMO_NOTE : MODEL_NOTE;
    },
  );
  const readiness = whenChanged(
    (state) => [canSend(state)],
    (isOpen) => chips.forEach((chip) => void (chip.disabled = !isOpen)),
  );
  const exchanges = whenChanged(
    (state) => [state.exchanges, state.now],
    (shown, now) => {
      const hasGrown = shown.length > views.length;
      welcome.hidden = shown.length > 0;
      for (const view of views.splice(shown.length)) view.element.remove();
      shown.forEach((exchange, index) => {
        if (index === views.length) {
          views.push(createExchangeView(actions));
          list.append(views[index].element);
        }
        views[index].render(exchange, { isLast: index === shown.length - 1, now });
      });
      if (shown.length === 0) reader.goToStart();
      else if (hasGrown) reader.goToEnd();
      else reader.follow();
    },
  );
  return (state) => [about, readiness, exchanges].forEach((render) => render(state));
}
