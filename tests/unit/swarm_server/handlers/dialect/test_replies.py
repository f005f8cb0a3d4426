"""What is gathered for one stream, frame by frame."""

from swarm_protocol.dialect import FailedFrame, Failure, Opened, OpenedFrame, decode_reply
from swarm_server.handlers.dialect.inflight import AllInflight, InflightTokens
from swarm_server.handlers.dialect.replies import Replies


def test_any_number_of_openings_and_failures_is_told() -> None:
    """In as many frames as a client can read; each of them is room for another step."""
    inflight = InflightTokens(1, AllInflight(1))
    replies = Replies(inflight, frame_tokens=16)
    for number in range(5_000):
        replies.add_opened(Opened(number, cached_tokens=0))
        replies.add_failure(Failure(number, "not_served", "\N{SNOWMAN}" * 256, retryable=False))

    opened, failed = list[int](), list[int]()
    while (reply := replies.next_frame()) is not None:
        inflight.remove(reply.num_inflight)
        match decode_reply(reply.data):
            case OpenedFrame() as frame:
                opened += [each.session_id for each in frame.opened]
            case FailedFrame() as frame:
                failed += [each.session_id for each in frame.failures]

    assert opened == failed == list(range(5_000))
    assert inflight.num_tokens == 0
