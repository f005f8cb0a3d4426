"""From the bytes of a frame to what it says, whatever its kind."""

from swarm_protocol.dialect.endings import (
    CancelFrame,
    CloseFrame,
    FailedFrame,
    decode_cancel,
    decode_close,
    decode_failed,
)
from swarm_protocol.dialect.frame import FrameKind, parse_frame
from swarm_protocol.dialect.openings import OpenedFrame, OpenFrame, decode_open, decode_opened
from swarm_protocol.dialect.steps import (
    OutputsFrame,
    PushedFrame,
    StepsFrame,
    decode_outputs,
    decode_pushed,
    decode_steps,
)
from swarm_protocol.errors import MalformedMessageError

Request = OpenFrame | StepsFrame | CloseFrame | CancelFrame | PushedFrame
Reply = OpenedFrame | FailedFrame | OutputsFrame


def decode_request(data: bytes) -> Request:
    """Return what a client's frame says.

    Raises:
        MalformedMessageError: it is no frame, no request, or a field does not fit.
    """
    frame = parse_frame(data)
    match frame.kind:
        case FrameKind.STEPS:
            return decode_steps(frame)
        case FrameKind.PUSHED:
            return decode_pushed(frame)
        case FrameKind.OPEN:
            return decode_open(frame)
        case FrameKind.CLOSE:
            return decode_close(frame)
        case FrameKind.CANCEL:
            return decode_cancel(frame)
        case _:
            raise MalformedMessageError(f"a client does not send {frame.kind.name}")


def decode_reply(data: bytes) -> Reply:
    """Return what a server's frame says.

    Raises:
        MalformedMessageError: it is no frame, no reply, or a field does not fit.
    """
    frame = parse_frame(data)
    match frame.kind:
        case FrameKind.OUTPUTS:
            return decode_outputs(frame)
        case FrameKind.OPENED:
            return decode_opened(frame)
        case FrameKind.FAILED:
            return decode_failed(frame)
        case _:
            raise MalformedMessageError(f"a server does not send {frame.kind.name}")
