"""Are known vulnerabilities among the locked dependencies? As OSV knows them (https://osv.dev).

`python -m scripts.audit_dependencies` exits with 1 when it finds some. Where the service does not
answer, as on a machine without a network, nothing was audited: it says so on stderr and exits with
0, for a change is not to blame. `requirements/accepted-advisories.txt` names those that we live
with, one id a line, and why behind a `#`.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

ROOT: Final = Path(__file__).resolve().parent.parent
_LOCKS: Final = ("requirements/torch.txt", "requirements/lock.txt")
_ACCEPTED: Final = ROOT / "requirements" / "accepted-advisories.txt"
_SERVICE: Final = "https://api.osv.dev"
_TIMEOUT_S: Final = 30.0


class ServiceAwayError(Exception):
    """The service gives no answer that could be used; nothing is known."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A dependency at its locked version."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Finding:
    """An advisory that holds for a locked version."""

    pin: Pin
    advisory: str


def pins(lock: str) -> list[Pin]:
    """Return what a lock pins.

    Raises:
        ValueError: a line is no pin, and would go unaudited.
    """
    found = list[Pin]()
    for line in lock.splitlines():
        text = line.partition("#")[0].partition(";")[0].strip()
        if not text:
            continue
        name, separator, version = text.partition("==")
        if not separator:
            raise ValueError(f"expected name==version, got {text!r}")
        found.append(Pin(name.strip(), version.strip()))
    return found


def findings(locked: Sequence[Pin], answer: Any) -> Iterator[Finding]:
    """Yield what OSV's answer to `question` says.

    Raises:
        ServiceAwayError: it is no such answer.
    """
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list) or len(results) != len(locked):
        raise ServiceAwayError("an answer of another form")
    for pin, result in zip(locked, results, strict=True):
        for advisory in result.get("vulns", ()):
            yield Finding(pin, str(advisory["id"]))


def question(locked: Sequence[Pin]) -> dict[str, Any]:
    """Return the body of one request for all of them.

    Source: https://google.github.io/osv.dev/post-v1-querybatch/
    """
    return {
        "queries": [
            {"package": {"ecosystem": "PyPI", "name": pin.name}, "version": pin.version}
            for pin in locked
        ]
    }


def ask(service: str, locked: Sequence[Pin]) -> list[Finding]:
    """Ask the service about all of them.

    Raises:
        ServiceAwayError: no answer, or none that could be used.
    """
    body = json.dumps(question(locked)).encode()
    request = Request(f"{service}/v1/querybatch", body, {"content-type": "application/json"})
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as response:
            return list(findings(locked, json.load(response)))
    except HTTPError as error:
        if error.code < 500 and error.code != 429:
            raise  # our question is wrong: that must not pass for an audit
        raise ServiceAwayError(str(error)) from error
    except (OSError, HTTPException, ValueError) as error:
        raise ServiceAwayError(str(error)) from error


def accepted_advisories(text: str) -> set[str]:
    """Return the ids that a list of accepted ones names."""
    ids = (line.partition("#")[0].strip() for line in text.splitlines())
    return {name for name in ids if name}


def main() -> int:
    """Audit the locks of this tree; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", default=_SERVICE, help="another one with OSV's interface")
    service = parser.parse_args().service
    locked = [pin for lock in _LOCKS for pin in pins((ROOT / lock).read_text("utf-8"))]
    accepted = accepted_advisories(_ACCEPTED.read_text("utf-8")) if _ACCEPTED.exists() else set()
    try:
        found = [known for known in ask(service, locked) if known.advisory not in accepted]
    except ServiceAwayError as error:
        sys.stderr.write(f"WARNING: dependencies were NOT AUDITED: {service}: {error}\n")
        return 0
    for known in found:
        pin, advisory = known.pin, known.advisory
        sys.stderr.write(f"{pin.name}=={pin.version}: https://osv.dev/vulnerability/{advisory}\n")
    sys.stderr.write(f"{len(locked)} dependencies audited, {len(found)} advisories\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
