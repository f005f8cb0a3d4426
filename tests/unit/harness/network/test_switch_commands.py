"""What a network and its switch say to each other."""

from tests.harness.network.link import LinkTerms
from tests.harness.network.switch_commands import Command, Report


def test_command_survives_its_line() -> None:
    """All terms arrive as they were set."""
    terms = LinkTerms(0.02, jitter_s=0.01, loss=0.1, rate_bytes_per_s=1e6, is_cut=True)
    command = Command(source=1, target=2, terms=terms)

    line = command.to_line()

    assert line.count("\n") == 1
    assert Command.parse(line) == command


def test_report_survives_its_line() -> None:
    """Handles come in the order of the hosts, faults with their reason."""
    report = Report(((3,), (4, 5)), "no privilege")

    line = report.to_line()

    assert line.count("\n") == 1
    assert Report.parse(line) == report
