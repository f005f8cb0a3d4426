// @ts-check
/** Where a person writes: model picker, message, send and stop, API key, notice. */

import { canSend, isAnswering } from "../store.mjs";
import { byId, focusMessage, h, whenChanged } from "./dom.mjs";

/**
 * @typedef {import("../types.mjs").Actions} Actions
 * @typedef {import("../types.mjs").Model} Model
 * @typedef {import("../types.mjs").State} State
 */

const MAX_ROWS = 8;

/** @param {State} state @returns {string} why nobody can chat right now, or nothing */
function noticeText({ isReachable, models }) {
  if (isReachable === false) {
    return "The gateway cannot be reached. Trying again every few seconds; this chat stays here.";
  }
  if (models?.length === 0) return "This gateway serves no model yet.";
  return "";
}

/** @param {Model} model @returns {HTMLOptionElement} */
function modelOption({ id, isDemo }) {
  return h("option", { value: id }, isDemo ? `${id} (demo model)` : id);
}

/** @param {Actions} actions @returns {(state: State) => void} */
function createPickerView(actions) {
  const picker = byId("model", HTMLSelectElement);
  picker.addEventListener("change", () => actions.chooseModel(picker.value));
  return whenChanged(
    (state) => [state.models, state.modelId, isAnswering(state)],
    (models, modelId, isBusy) => {
      const options = models === null ? [h("option", {}, "Loading…")] : models.map(modelOption);
      picker.replaceChildren(...options);
      picker.disabled = models === null || isBusy;
      if (models !== null && modelId !== null) picker.value = modelId;
    },
  );
}

/** @param {Actions} actions @returns {(state: State) => void} */
function createKeyView(actions) {
  const form = byId("api-key-form", HTMLFormElement);
  const input = byId("api-key", HTMLInputElement);
  const label = byId("api-key-label", HTMLElement);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.value.trim() !== "") actions.saveKey(input.value.trim());
    input.value = "";
  });
  return whenChanged(
    (state) => [state.keyForm],
    (keyForm) => {
      form.hidden = keyForm === "hidden";
      label.textContent =
        keyForm === "refused"
          ? "The gateway does not know this API key. Another one?"
          : "This gateway asks for an API key";
      if (!form.hidden) input.focus();
    },
  );
}

/** @param {Actions} actions @returns {(state: State) => void} */
function createMessageView(actions) {
  const form = byId("composer", HTMLFormElement);
  const message = byId("message", HTMLTextAreaElement);
  const send = byId("send", HTMLButtonElement);
  const stop = byId("stop", HTMLButtonElement);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    actions.send(message.value);
    focusMessage(); // the button pressed may be gone
  });
  stop.addEventListener("click", () => {
    actions.stop();
    focusMessage();
  });
  message.addEventListener("input", () => actions.changeDraft(message.value));
  message.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    actions.send(message.value);
  });

  return whenChanged(
    (state) => [state.draft, isAnswering(state), canSend(state)],
    (draft, isBusy, isOpen) => {
      message.value = draft;
      message.rows = Math.min(MAX_ROWS, draft.split("\n").length);
      send.hidden = isBusy;
      send.disabled = !isOpen || draft.trim() === "";
      stop.hidden = !isBusy;
    },
  );
}

/**
 * @param {Actions} actions
 * @returns {(state: State) => void}
 */
export function createComposerView(actions) {
  const notice = byId("notice", HTMLElement);
  byId("new-chat", HTMLButtonElement).addEventListener("click", () => {
    actions.startNew();
    focusMessage();
  });
  const showNotice = whenChanged(
    (state) => [noticeText(state)],
    (text) => {
      notice.textContent = text;
      notice.hidden = text === "";
    },
  );
  const parts = [showNotice, createPickerView(actions), createKeyView(actions)];
  parts.push(createMessageView(actions));
  return (state) => parts.forEach((render) => render(state));
}
