"""The one table from error codes to what callers see.

A code that is not in it is an internal error. `docs/reference/errors.md` is made of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

CLOSE_UNSUPPORTED: Final = 1003
CLOSE_POLICY: Final = 1008
CLOSE_TOO_BIG: Final = 1009
CLOSE_INTERNAL: Final = 1011
CLOSE_RESTART: Final = 1012
CLOSE_TRY_LATER: Final = 1013


@dataclass(frozen=True, slots=True)
class Rule:
    """How one code is told.

    Attributes:
        http_status: of the answer.
        advice: what a caller can do about it, for the reference page.
        close_code: of a WebSocket.
        sentence: told instead of the error's own text; None if that was written for callers.
        retry_after_s: where waiting helps, and the error does not say how long.
    """

    http_status: int
    advice: str
    close_code: int = CLOSE_POLICY
    sentence: str | None = None
    retry_after_s: int | None = None


_AGAIN: Final = "please try again"
_CORRECT: Final = "Correct what the message names; the same request fails again."
_SHORTEN: Final = "Send less text, or ask for fewer tokens."
_WAIT: Final = "Wait as long as `Retry-After` says, then send it again."
_RESEND: Final = "Send it again; the gateway leaves the server alone for a while."
_PEER: Final = Rule(
    502, _RESEND, CLOSE_TRY_LATER, f"a server of the swarm did not do its part, {_AGAIN}"
)

INTERNAL: Final = Rule(
    500,
    "Tell the operator the `x-request-id` of the answer; the log has the rest.",
    CLOSE_INTERNAL,
    "something went wrong inside the gateway",
)
RULES: Final[Mapping[str, Rule]] = {
    "bad_request": Rule(400, _CORRECT),
    "unsupported_field": Rule(400, "Leave the field out: the answer would not be what it asks."),
    "invalid_parameters": Rule(400, _CORRECT),
    "bad_messages": Rule(400, _CORRECT),
    "max_length_exceeded": Rule(400, _SHORTEN),
    "prompt_too_long": Rule(400, _SHORTEN),
    "empty_prompt": Rule(400, "Send a prompt of at least one token."),
    "over_limit": Rule(400, f"{_SHORTEN} Waiting does not help."),
    "invalid_grammar": Rule(400, _CORRECT),
    "grammar_too_large": Rule(400, "Simplify the schema, pattern or grammar."),
    "grammar_failed": Rule(400, "Simplify the schema, pattern or grammar."),
    "no_token_allowed": Rule(400, "Simplify the schema, pattern or grammar."),
    "grammars_unavailable": Rule(400, "Choose another model, or ask for free text."),
    "compilers_busy": Rule(503, _WAIT, CLOSE_TRY_LATER, retry_after_s=1),
    "foreign_origin": Rule(403, "Ask the operator to list the site in `SWARMGATE_ORIGINS`."),
    "invalid_api_key": Rule(401, "Send a key of this gateway as `Authorization: Bearer KEY`."),
    "api_key_expired": Rule(401, "Ask whoever gave you the key for a new one."),
    "out_of_scope": Rule(403, "Use a key whose scopes include what the message names."),
    "key_not_found": Rule(404, "Look at `GET /api/v1/admin/keys`."),
    "keys_not_stored": Rule(409, "Set `SWARMGATE_REDIS_URL` or `SWARMGATE_KEYS__FILE`."),
    "keys_unreadable": Rule(
        503, "Tell the operator.", CLOSE_TRY_LATER, "the gateway's keys cannot be read", 5
    ),
    "unknown_model": Rule(404, "Choose one of those that `GET /v1/models` lists."),
    "model_exists": Rule(409, "Remove the other model first, or wait until it has left."),
    "memory_budget": Rule(507, "Remove a model, or raise `SWARMGATE_MEMORY_BUDGET_GB`."),
    "models_fixed": Rule(501, "Change `SWARMGATE_MODELS` and restart."),
    "bad_checkpoint": Rule(422, "Look at the name, and at what the message says of the files."),
    "unsupported_model": Rule(422, "Choose a model of a family that the message names."),
    "not_found": Rule(404, "Look at the path; `docs/guide/talk-to-the-gateway.md` lists them."),
    "journal_not_found": Rule(
        404,
        "Begin anew: what could be resumed has expired, or belongs to another key.",
        sentence=f"Session of this conversation has expired, {_AGAIN}",
    ),
    "response_not_found": Rule(
        404, "Create it anew; responses are kept for `SWARMGATE_RESUME_S` seconds."
    ),
    "journal_unreadable": Rule(409, "Begin anew: another version of the gateway has written it."),
    "method_not_allowed": Rule(405, "Use the method that the path is documented with."),
    "websocket_expected": Rule(426, "Use a WebSocket client; or `POST /api/v1/generate`."),
    "body_timeout": Rule(408, "Send the body faster, or a smaller one."),
    "body_too_large": Rule(413, "Send a smaller body.", CLOSE_TOO_BIG),
    "message_too_large": Rule(413, "Send smaller messages.", CLOSE_TOO_BIG),
    "binary_message": Rule(400, "Send text frames.", CLOSE_UNSUPPORTED),
    "rate_limited": Rule(429, _WAIT, CLOSE_TRY_LATER),
    "budget_exhausted": Rule(429, "Wait for the next month, or ask for more.", CLOSE_TRY_LATER),
    "too_many_open": Rule(429, "End one of your streams or connections first.", CLOSE_TRY_LATER),
    "too_many_waiting": Rule(429, _WAIT, CLOSE_TRY_LATER),
    "queue_full": Rule(503, _WAIT, CLOSE_TRY_LATER),
    "queue_timeout": Rule(503, _WAIT, CLOSE_TRY_LATER),
    "busy": Rule(503, _WAIT, CLOSE_TRY_LATER, retry_after_s=1),
    "draining": Rule(503, f"{_WAIT} Another gateway may take it.", CLOSE_TRY_LATER, None, 5),
    "handed_over": Rule(
        503, "Resume the stream at another gateway, or here later.", CLOSE_RESTART, None, 1
    ),
    "state_unavailable": Rule(
        503, _WAIT, CLOSE_TRY_LATER, f"the gateway's state store does not answer, {_AGAIN}", 1
    ),
    "engine_stopped": Rule(503, _WAIT, CLOSE_TRY_LATER, f"the engine has stopped, {_AGAIN}", 5),
    "overloaded": Rule(503, _WAIT, CLOSE_TRY_LATER, retry_after_s=1),
    "no_route": Rule(
        503, f"{_WAIT} `GET /api/v1/swarm` shows who is missing.", CLOSE_TRY_LATER, None, 2
    ),
    # The chat page of Petals looks for "attention cache is full" and "Session … expired".
    "no_capacity": Rule(
        503, _WAIT, CLOSE_TRY_LATER, f"the servers' attention cache is full, {_AGAIN} later", 2
    ),
    "session_lost": Rule(
        503,
        "Send it again; another route is taken.",
        CLOSE_TRY_LATER,
        f"Session has expired: a server of its route was lost, {_AGAIN}",
        1,
    ),
    "session_closed": Rule(
        503, "Begin the conversation anew.", CLOSE_TRY_LATER, f"Session has expired, {_AGAIN}", 1
    ),
    "model_closed": Rule(
        503, _WAIT, CLOSE_TRY_LATER, f"the model is not served just now, {_AGAIN}", 1
    ),
    "deadline_exceeded": Rule(
        504, _RESEND, CLOSE_TRY_LATER, f"the swarm did not answer in time, {_AGAIN}"
    ),
    "peer_error": _PEER,
    "peer_unreachable": _PEER,
    "peer_refused": _PEER,
    "peer_misbehaved": _PEER,
    "protocol_not_supported": _PEER,
    "malformed_message": _PEER,
    "bad_hidden_states": _PEER,
    "node_failed": Rule(
        503, _WAIT, CLOSE_TRY_LATER, f"the gateway has lost the swarm, {_AGAIN}", 5
    ),
}
