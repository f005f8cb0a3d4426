// @ts-check
/** Wires the page: store, gateway, view, keys and clock. */

import { createApi } from "./api.mjs";
import { createConversation } from "./conversation.mjs";
import { GatewayError } from "./gateway-error.mjs";
import { createGatewayWatch } from "./gateway-watch.mjs";
import { loadApiKey, loadChat, saveApiKey, saveChat } from "./session.mjs";
import { createStore, initialState, isAnswering, lastExchange, needsClock } from "./store.mjs";
import { showPage } from "./view.mjs";

const TICK_MS = 250;

// Goes evenly, and on over a reload.
const clock = () => performance.timeOrigin + performance.now();
const saved = loadChat();
const store = createStore(initialState(saved));
const api = createApi({ fetch: window.fetch.bind(window), apiKey: loadApiKey });

/** @param {unknown} error @returns {boolean} whether it was about the key */
function askKeyFor(error) {
  if (!(error instanceof GatewayError && error.status === 401)) return false;
  store.dispatch({ type: "keyAsked", isRefused: loadApiKey() !== null });
  return true;
}

const watch = createGatewayWatch({ store, api, askKeyFor });
const refreshSwarm = watch.refresh;
const conversation = createConversation({ store, api, refreshSwarm, askKeyFor, clock });

showPage(store, {
  ...conversation,
  chooseModel: (modelId) => store.dispatch({ type: "modelChosen", modelId }),
  changeDraft: (draft) => store.dispatch({ type: "draftChanged", draft }),
  toggleSwarm: () => store.dispatch({ type: "swarmToggled" }),
  askKey: () => store.dispatch({ type: "keyAsked", isRefused: false }),
  async saveKey(key) {
    saveApiKey(key);
    store.dispatch({ type: "keySaved" });
    await refreshSwarm();
    if (lastExchange(store.state())?.failure?.action === "api_key") conversation.retry();
  },
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (isAnswering(store.state())) conversation.stop();
  else if (store.state().isSwarmOpen) store.dispatch({ type: "swarmToggled" });
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refreshSwarm();
});
window.addEventListener("pagehide", () => {
  saveChat({ ...store.state(), resumeId: conversation.resumeId() });
});
setInterval(() => {
  if (needsClock(store.state())) store.dispatch({ type: "ticked", now: clock() });
}, TICK_MS);
if (location.pathname.endsWith("/swarm")) store.dispatch({ type: "swarmToggled" });
watch.start();
if (saved?.resumeId) conversation.resume(saved.resumeId);
