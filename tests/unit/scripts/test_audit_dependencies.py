"""The audit of the locks: a known vulnerability fails it, a service that is away does not."""

import json
import re
import sys
from urllib.error import HTTPError

import pytest

from scripts import audit_dependencies
from scripts.audit_dependencies import Finding, Pin, accepted_advisories, ask, pins
from tests.unit.swarmgate.http_answers import answering

LOCKED = (Pin("requests", "2.0.0"), Pin("rich", "15.0.0"))
BAD = json.dumps({"results": [{"vulns": [{"id": "GHSA-x84v"}]}, {}]}).encode()
NOWHERE = "http://127.0.0.1:1"


def test_pins_are_read_without_comments_and_markers() -> None:
    """A version is asked for as it is locked."""
    lock = "# a comment\n\ntorch==2.13.0\nuvloop==0.23.0 ; sys_platform != 'win32'\n"

    assert pins(lock) == [Pin("torch", "2.13.0"), Pin("uvloop", "0.23.0")]


def test_a_line_that_is_no_pin_is_refused() -> None:
    """What has no version cannot be audited, and must not look as if it had been."""
    with pytest.raises(ValueError, match="requests>=2"):
        pins("requests>=2\n")


def test_a_known_vulnerability_is_found() -> None:
    """Answers are in the order of the questions."""
    with answering(200, BAD) as service:
        assert ask(service, LOCKED) == [Finding(LOCKED[0], "GHSA-x84v")]


@pytest.mark.parametrize(
    ("status", "body"),
    [(503, b""), (429, b""), (200, b"<html>a portal</html>"), (200, b'{"results": []}')],
)
def test_a_service_that_does_not_answer_has_audited_nothing(status: int, body: bytes) -> None:
    """An answer of another form is none, as is one about fewer packages."""
    with (
        answering(status, body) as service,
        pytest.raises(audit_dependencies.ServiceAwayError),
    ):
        ask(service, LOCKED)


def test_a_question_that_is_refused_is_our_fault() -> None:
    """It would else pass for a service that is away, for ever."""
    with answering(400, b"{}") as service, pytest.raises(HTTPError):
        ask(service, LOCKED)


def test_accepted_advisories_have_reasons_behind_them() -> None:
    """The ids count."""
    assert accepted_advisories("GHSA-1  # not reachable\n\n# a comment\n") == {"GHSA-1"}


def test_without_a_network_it_passes_and_says_so_loudly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A change is not to blame for the network."""
    monkeypatch.setattr(sys, "argv", ["audit", "--service", NOWHERE])

    assert audit_dependencies.main() == 0
    assert "NOT AUDITED" in capsys.readouterr().err


def test_a_vulnerable_pin_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever of the real locks it is in; where to read of it is told."""
    num_pins = sum(
        len(pins((audit_dependencies.ROOT / lock).read_text("utf-8")))
        for lock in ("requirements/torch.txt", "requirements/lock.txt")
    )
    results = [{"vulns": [{"id": "GHSA-x84v"}]}, *({} for _ in range(num_pins - 1))]
    with answering(200, json.dumps({"results": results}).encode()) as service:
        monkeypatch.setattr(sys, "argv", ["audit", "--service", service])
        code = audit_dependencies.main()

    assert code == 1
    assert re.search(
        r"torch==\S+: https://osv.dev/vulnerability/GHSA-x84v", capsys.readouterr().err
    )
