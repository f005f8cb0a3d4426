"""Protobuf messages of the remote methods, and parsing them from a peer's bytes.

Field numbers are in PETALS_PROTOCOL §2.1; the generated classes are hivemind's.
"""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from hivemind.proto.runtime_pb2 import (
    ExpertInfo,
    ExpertRequest,
    ExpertResponse,
    ExpertUID,
)
from hivemind.proto.runtime_pb2 import Tensor as TensorMessage

from swarm_protocol.errors import MalformedMessageError

__all__ = [
    "ExpertInfo",
    "ExpertRequest",
    "ExpertResponse",
    "ExpertUID",
    "TensorMessage",
    "parse_message",
]

AnyMessage = TypeVar("AnyMessage", bound=Message)


def parse_message(kind: type[AnyMessage], data: bytes) -> AnyMessage:
    """Return the message of class `kind` that `data` encodes.

    Raises:
        MalformedMessageError: `data` is not such a message.
    """
    message: AnyMessage = kind()
    try:
        message.ParseFromString(data)
    except (DecodeError, ValueError) as error:
        raise MalformedMessageError(f"expected a {kind.__name__}, got other bytes") from error
    return message
