"""Our own wire dialect: many sessions on one stream, described in docs/reference/protocol.md.

Entry points: `HelloRequest` and `HelloReply`; the `encode_…` function of each frame,
`decode_request` for what a server receives and `decode_reply` for what a client does. Pure: bytes
in and out. Must not know sessions, engines or streams.
"""

from swarm_protocol.dialect.decoding import decode_reply, decode_request
from swarm_protocol.dialect.endings import (
    DRAINING_CODE,
    NO_SESSION,
    CancelFrame,
    CloseFrame,
    FailedFrame,
    Failure,
    encode_cancel,
    encode_close,
    encode_failed,
)
from swarm_protocol.dialect.fields import MAX_U32
from swarm_protocol.dialect.frame import VERSION
from swarm_protocol.dialect.hello import HelloReply, HelloRequest
from swarm_protocol.dialect.openings import (
    HASH_BYTES,
    MAX_NAME_LENGTH,
    MAX_PREFIX_HASHES,
    TOKEN_BYTES,
    Opened,
    OpenedFrame,
    OpenFrame,
    Opening,
    PushTarget,
    encode_open,
    encode_opened,
    split_openings,
)
from swarm_protocol.dialect.prefix_hashes import hash_prefixes
from swarm_protocol.dialect.rows import StepExtras, good_frame_tokens, split_rows
from swarm_protocol.dialect.steps import (
    IS_COPY,
    ONLY_LAST,
    STEP_FLAGS,
    WANTS_PUSH,
    OutputEntry,
    OutputsFrame,
    PushedEntry,
    PushedFrame,
    StepEntry,
    StepsFrame,
    encode_outputs,
    encode_pushed,
    encode_steps,
)

__all__ = [
    "DRAINING_CODE",
    "HASH_BYTES",
    "IS_COPY",
    "MAX_NAME_LENGTH",
    "MAX_PREFIX_HASHES",
    "MAX_U32",
    "NO_SESSION",
    "ONLY_LAST",
    "STEP_FLAGS",
    "TOKEN_BYTES",
    "VERSION",
    "WANTS_PUSH",
    "CancelFrame",
    "CloseFrame",
    "FailedFrame",
    "Failure",
    "HelloReply",
    "HelloRequest",
    "OpenFrame",
    "Opened",
    "OpenedFrame",
    "Opening",
    "OutputEntry",
    "OutputsFrame",
    "PushTarget",
    "PushedEntry",
    "PushedFrame",
    "StepEntry",
    "StepExtras",
    "StepsFrame",
    "decode_reply",
    "decode_request",
    "encode_cancel",
    "encode_close",
    "encode_failed",
    "encode_open",
    "encode_opened",
    "encode_outputs",
    "encode_pushed",
    "encode_steps",
    "good_frame_tokens",
    "hash_prefixes",
    "split_openings",
    "split_rows",
]
