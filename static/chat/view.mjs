// @ts-check
/** The page as a function of the state; draws at most once per frame. */

import { announcement } from "./announcements.mjs";
import { createComposerView } from "./view/composer-view.mjs";
import { createConversationView } from "./view/conversation-view.mjs";
import { byId } from "./view/dom.mjs";
import { createSwarmView } from "./view/swarm-view.mjs";

/**
 * @typedef {import("./types.mjs").Actions} Actions
 * @typedef {import("./types.mjs").Store} Store
 */

/** @param {Store} store @param {Actions} actions */
export function showPage(store, actions) {
  const parts = [
    createConversationView(actions),
    createComposerView(actions),
    createSwarmView(actions),
  ];
  const announcer = byId("announcer", HTMLElement);
  let shown = store.state();
  let isDue = false;

  function draw() {
    isDue = false;
    const state = store.state();
    for (const render of parts) render(state);
    const words = announcement(shown, state);
    if (words !== null) announcer.textContent = words;
    shown = state;
  }

  store.subscribe(() => {
    if (!isDue) requestAnimationFrame(draw);
    isDue = true;
  });
  draw();
}
