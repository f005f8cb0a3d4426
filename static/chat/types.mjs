// @ts-check
/**
 * The shapes the page works with; no behaviour, and nothing imports it at run time.
 *
 * Times `*At` are milliseconds of the clock in `main.mjs`, durations carry their unit in the name,
 * block ranges are half-open pairs `[start, end]`.
 *
 * @typedef {{ id: string, isDemo: boolean }} Model
 *
 * @typedef {[number, number]} BlockRange
 *
 * @typedef {"joining" | "online" | "offline"} ServerState
 *
 * @typedef {object} Server
 * @property {string} peerId
 * @property {string | null} name
 * @property {ServerState} state
 * @property {BlockRange} blocks
 * @property {number | null} pingMs
 * @property {number | null} tokensLeft free KV memory, in tokens
 * @property {boolean} isBanned left alone for a while after it failed
 *
 * @typedef {object} SwarmModel
 * @property {string} id
 * @property {number} numBlocks
 * @property {string} dhtPrefix
 * @property {BlockRange[]} missing blocks nobody serves now
 * @property {Server[]} servers
 *
 * @typedef {{ maddrs: string[], models: SwarmModel[] }} Swarm
 *
 * @typedef {object} Timing
 * @property {number} sentAt
 * @property {number | null} firstAt first text of the answer, or of a thought
 * @property {number | null} lastAt latest text, or the end
 * @property {number} numChunks pieces of text received so far, about one token each
 * @property {number | null} numTokens counted by the gateway; known when the answer is complete
 *
 * @typedef {"retry" | "new_chat" | "api_key"} NextAction
 *
 * @typedef {object} Failure
 * @property {string} title what happened
 * @property {string} hint what to do now
 * @property {NextAction} action
 * @property {number | null} retryAt earliest sensible moment of a retry
 * @property {string | null} requestId
 *
 * @typedef {object} Notice what holds the answer up right now
 * @property {string} type `hop_lost`, `waiting_for_blocks`, `hop_restored` or `connection_lost`
 * @property {BlockRange[]} blocks
 * @property {number | null} leftS for how long the gateway goes on waiting
 *
 * @typedef {"streaming" | "done" | "stopped" | "failed"} ExchangeStatus
 *
 * @typedef {object} Exchange one question and its answer
 * @property {number} id
 * @property {string} modelId
 * @property {string} question
 * @property {string} thought what the model thought before it answered
 * @property {string} answer
 * @property {ExchangeStatus} status
 * @property {Timing} timing
 * @property {string | null} finishReason OpenAI's word: `stop` or `length`
 * @property {Notice | null} notice
 * @property {Failure | null} failure set when the status is `failed`
 *
 * @typedef {{ role: "user" | "assistant", content: string }} Message
 *
 * @typedef {{ type: "text" | "thought", text: string }
 *   | { type: "finish", reason: string }
 *   | { type: "usage", completionTokens: number }
 *   | { type: "notice", notice: Notice }} ChatEvent
 *
 * @typedef {"hidden" | "needed" | "refused"} KeyForm
 *
 * @typedef {object} State
 * @property {Model[] | null} models null until the gateway has told
 * @property {string | null} modelId
 * @property {Exchange[]} exchanges
 * @property {string} draft
 * @property {Swarm | null} swarm
 * @property {boolean | null} isReachable whether the gateway answered last time
 * @property {boolean | null} isReady whether its canary tokens came back lately
 * @property {boolean} isSwarmOpen
 * @property {KeyForm} keyForm
 * @property {number} now
 *
 * @typedef {{ type: "modelsLoaded", models: Model[] }
 *   | { type: "modelChosen", modelId: string }
 *   | { type: "draftChanged", draft: string }
 *   | { type: "questionSent", question: string, at: number }
 *   | { type: "retried", at: number }
 *   | { type: "chatEvent", event: ChatEvent, at: number }
 *   | { type: "answerEnded" }
 *   | { type: "answerStopped" }
 *   | { type: "answerFailed", failure: Failure }
 *   | { type: "chatCleared" }
 *   | { type: "swarmSeen", swarm: Swarm | null, isReady: boolean }
 *   | { type: "gatewayLost" }
 *   | { type: "swarmToggled" }
 *   | { type: "keyAsked", isRefused: boolean }
 *   | { type: "keySaved" }
 *   | { type: "ticked", now: number }} Action
 *
 * @typedef {object} Store
 * @property {() => State} state
 * @property {(action: Action) => void} dispatch
 * @property {(listener: (state: State) => void) => void} subscribe
 *
 * @typedef {object} Actions what a person can do on the page
 * @property {(question: string) => void} send
 * @property {() => void} stop
 * @property {() => void} retry
 * @property {() => void} startNew
 * @property {(modelId: string) => void} chooseModel
 * @property {(draft: string) => void} changeDraft
 * @property {() => void} toggleSwarm
 * @property {() => void} askKey
 * @property {(key: string) => void} saveKey
 */
export {};
