// @ts-check
/** One question and its answer on the page. */

import { noticeText } from "../notices.mjs";
import { speedText } from "../speed.mjs";
import { createAnswerView } from "./answer-view.mjs";
import { focusMessage, h } from "./dom.mjs";

/**
 * @typedef {import("../types.mjs").Actions} Actions
 * @typedef {import("../types.mjs").Exchange} Exchange
 * @typedef {import("../types.mjs").Failure} Failure
 * @typedef {import("../types.mjs").NextAction} NextAction
 */

/** Where an exchange stands, and when. @typedef {{ isLast: boolean, now: number }} Place */

/** @typedef {{ action: NextAction, text: string, isOff: boolean }} NextStep */

/** @param {Exchange} exchange @param {Place} place @returns {NextStep | null} */
function nextStep({ status, failure }, { isLast, now }) {
  if (!isLast) return null;
  if (status === "stopped") return { action: "retry", text: "Try again", isOff: false };
  if (failure === null) return null;
  if (failure.action === "new_chat") return { action: "new_chat", text: "New chat", isOff: false };
  if (failure.action === "api_key") return { action: "api_key", text: "Enter key", isOff: false };
  const waitMs = failure.retryAt === null ? 0 : failure.retryAt - now;
  const text = waitMs > 0 ? `Try again in ${Math.ceil(waitMs / 1000)} s` : "Try again";
  return { action: "retry", text, isOff: waitMs > 0 };
}

/** @param {Failure} failure @returns {HTMLElement} */
function failureText({ title, hint, requestId }) {
  const lines = [h("strong", {}, title), h("span", {}, hint)];
  if (requestId !== null) lines.push(h("small", {}, `Request ${requestId}`));
  return h("div", { class: "failure", role: "alert" }, ...lines);
}

/** @param {Exchange} exchange @param {Place} place @returns {string} */
function noteText({ status, timing, finishReason }, { now }) {
  const speed = speedText(timing);
  if (status === "streaming" && speed === "") {
    const waitedMs = now - timing.sentAt;
    return waitedMs < 1000 ? "Reading…" : `Reading… ${Math.floor(waitedMs / 1000)} s`;
  }
  const notes = [
    status === "stopped" ? "Stopped" : "",
    speed,
    finishReason === "length" ? "ended by the length limit" : "",
  ];
  return notes.filter((note) => note !== "").join(" · ");
}

/**
 * @param {Actions} actions
 * @returns {{ element: HTMLElement, render: (exchange: Exchange, place: Place) => void }}
 */
export function createExchangeView(actions) {
  const question = h("p", { class: "question", dir: "auto" });
  const answer = createAnswerView();
  const waiting = h("p", { class: "waiting", "aria-hidden": "true" });
  waiting.append(h("span"), h("span"), h("span"), h("span"));
  const thought = document.createTextNode("");
  const thoughtTitle = h("summary");
  const thoughtBox = h("details", { class: "thought" }, thoughtTitle, h("p", {}, thought));
  const notice = h("p", { class: "notice", role: "status", hidden: true });
  const failure = h("div", { class: "failure-place" });
  const speed = h("span", { class: "speed" });
  const next = h("button", { type: "button", class: "quiet" });
  next.addEventListener("click", () => {
    const act = { retry: actions.retry, new_chat: actions.startNew, api_key: actions.askKey };
    act[/** @type {NextAction} */ (next.dataset.action)]();
    if (next.dataset.action !== "api_key") focusMessage(); // the button is gone
  });
  const model = h("span", { class: "who" });
  const element = h(
    "article",
    { class: "exchange" },
    h("h2", { class: "for-screen-readers" }, "You"),
    question,
    h("h2", { class: "answerer" }, model),
    waiting,
    thoughtBox,
    answer.element,
    notice,
    failure,
    h("div", { class: "foot" }, speed, next),
  );
  /** @type {Exchange | null} */
  let shown = null;

  /** @param {Exchange} exchange */
  function renderText(exchange) {
    question.textContent = exchange.question;
    model.textContent = exchange.modelId;
    if (exchange.answer !== (shown?.answer ?? "")) answer.render(exchange.answer);
    if (exchange.thought !== thought.data) thought.data = exchange.thought;
    const isThinking = exchange.status === "streaming" && exchange.answer === "";
    thoughtTitle.textContent = isThinking ? "Thinking…" : "Thoughts";
    thoughtBox.hidden = exchange.thought === "";
    element.dataset.status = exchange.status;
    answer.element.setAttribute("aria-busy", String(exchange.status === "streaming"));
    answer.element.hidden = exchange.answer === "";
    waiting.hidden = !isThinking;
    notice.textContent = exchange.notice === null ? "" : noticeText(exchange.notice);
    notice.hidden = notice.textContent === "";
    if (exchange.failure === (shown?.failure ?? null)) return;
    failure.replaceChildren(...(exchange.failure === null ? [] : [failureText(exchange.failure)]));
  }

  /** @param {Exchange} exchange @param {Place} place */
  function renderFoot(exchange, place) {
    speed.textContent = noteText(exchange, place);
    speed.title =
      exchange.timing.numTokens === null
        ? "Estimated from the pieces of text received"
        : "Tokens as counted by the gateway, time as seen here";
    const step = nextStep(exchange, place);
    next.hidden = step === null;
    if (step === null) return;
    next.dataset.action = step.action;
    next.textContent = step.text;
    next.disabled = step.isOff;
  }

  return {
    element,
    render(exchange, place) {
      if (exchange !== shown) renderText(exchange);
      renderFoot(exchange, place);
      shown = exchange;
    },
  };
}
