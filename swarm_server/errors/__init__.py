"""Errors of the block server.

SwarmError
├── BlockRangeError          the wanted blocks are not in the model
├── CheckpointError          of swarm_protocol: a model's files are missing or do not fit
│   └── AdapterError             an adapter's are, or it needs what is not served
├── DeviceError              there is no such device to compute on
├── DeviceBrokenError        the device computes nothing any more in this process
├── RequestRefusedError      what a peer sent fails a check; its session is closed
│   ├── NotServedError           it names blocks or an adapter that this server does not hold
│   ├── InvalidStepError         a tensor's shape, dtype or values do not fit the session
│   ├── StepTooLargeError        more tokens in one step than the server computes at once
│   ├── MaxLengthExceededError   the step does not fit into the length reserved for the session
│   ├── InvalidPositionError     a rollback to a position the session never had
│   ├── SessionNotUniqueError    the session id is in use
│   ├── CopiesDisagreeError      a pushed step and the caller's own copy are not the same
│   ├── NotFiniteError           a step has given infinity or not-a-number
│   ├── StepUnfinishedError      the session has a step that is not finished
│   └── ReplyTooLargeError       the reply fits only a stream
├── KVMemoryError            the KV memory asked for is not there
│   └── PagesExhaustedError      too few pages are free just now; the engine waits or preempts
├── TooManySessionsError     the server runs its maximum of sessions
├── TooManyRequestsError     the server has its maximum of forward and backward requests
├── TooManyStreamsError      the server has its maximum of open streams, with a peer or with all
├── RequestExpiredError      a forward or backward request took longer than the server allows
├── ServerDrainingError      the server takes nothing new
├── SessionExpiredError      the session lasted longer than the server allows
└── StepFailedError          a fault of ours while computing a step
    └── BatchFailedError         the device failed on a batch of steps; they may succeed again

Peers get `str(error)`. Stock clients, and pages built on them, look for parts of these texts;
those that PETALS_PROTOCOL §3.8 lists are kept word for word.
"""

from swarm_server.errors.loading import (
    AdapterError,
    BlockRangeError,
    DeviceBrokenError,
    DeviceError,
)
from swarm_server.errors.refusals import (
    CopiesDisagreeError,
    InvalidPositionError,
    InvalidStepError,
    MaxLengthExceededError,
    NotFiniteError,
    NotServedError,
    ReplyTooLargeError,
    RequestRefusedError,
    SessionNotUniqueError,
    StepTooLargeError,
    StepUnfinishedError,
)
from swarm_server.errors.shortages import (
    BatchFailedError,
    KVMemoryError,
    PagesExhaustedError,
    RequestExpiredError,
    ServerDrainingError,
    SessionExpiredError,
    StepFailedError,
    TooManyRequestsError,
    TooManySessionsError,
    TooManyStreamsError,
)

__all__ = [
    "AdapterError",
    "BatchFailedError",
    "BlockRangeError",
    "CopiesDisagreeError",
    "DeviceBrokenError",
    "DeviceError",
    "InvalidPositionError",
    "InvalidStepError",
    "KVMemoryError",
    "MaxLengthExceededError",
    "NotFiniteError",
    "NotServedError",
    "PagesExhaustedError",
    "ReplyTooLargeError",
    "RequestExpiredError",
    "RequestRefusedError",
    "ServerDrainingError",
    "SessionExpiredError",
    "SessionNotUniqueError",
    "StepFailedError",
    "StepTooLargeError",
    "StepUnfinishedError",
    "TooManyRequestsError",
    "TooManySessionsError",
    "TooManyStreamsError",
]
