"""What a network and its switch, a process of its own, say to each other: lines of JSON.

The switch begins with a `Report` of what it has set up. Then each `Command` is answered by an empty
line when it is in force. The end of its input ends the switch.
"""

import json
import sys
from dataclasses import asdict, dataclass
from typing import Self

from tests.harness.network.link import LinkTerms


@dataclass(frozen=True, slots=True)
class Report:
    """What a switch has set up, or why it could not.

    Attributes:
        handles: of each host: the descriptor of its namespace, or its node's port and its proxy's.
        fault: empty when all went well.
    """

    handles: tuple[tuple[int, ...], ...] = ()
    fault: str = ""

    def to_line(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def parse(cls, line: str) -> Self:
        """Return the report in a line."""
        fields = json.loads(line)
        return cls(tuple(tuple(handle) for handle in fields["handles"]), fields["fault"])


@dataclass(frozen=True, slots=True)
class Command:
    """New terms for one direction of the link between two hosts, which are numbered."""

    source: int
    target: int
    terms: LinkTerms

    def to_line(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def parse(cls, line: str | bytes) -> Self:
        """Return the command in a line."""
        fields = json.loads(line)
        return cls(fields["source"], fields["target"], LinkTerms(**fields["terms"]))


def say(line: str) -> None:
    """Send a line, in a switch, to its network."""
    sys.stdout.write(line)
    sys.stdout.flush()
