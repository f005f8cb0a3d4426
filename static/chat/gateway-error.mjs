// @ts-check
/** What goes wrong between the page and its gateway. Pure. */

/** The gateway's error, or the lack of an answer: `unreachable`, `connection_lost`. */
export class GatewayError extends Error {
  /**
   * @param {string} code the gateway's stable word
   * @param {string} message one sentence of the gateway; may be empty
   * @param {{ status?: number, retryAfterS?: number, requestId?: string }} [facts]
   */
  constructor(code, message, { status, retryAfterS, requestId } = {}) {
    super(message);
    this.name = "GatewayError";
    this.code = code;
    this.status = status;
    this.retryAfterS = retryAfterS;
    this.requestId = requestId;
  }
}

/** @param {any} error OpenAI's error object @param {Response} [response] @returns {GatewayError} */
export function errorFrom(error, response) {
  const retryAfterS = Number.parseFloat(response?.headers.get("retry-after") ?? "");
  return new GatewayError(error?.code ?? error?.type ?? "unknown", error?.message ?? "", {
    status: response?.status,
    retryAfterS: Number.isFinite(retryAfterS) ? retryAfterS : undefined,
    requestId: error?.request_id ?? response?.headers.get("x-request-id") ?? undefined,
  });
}
