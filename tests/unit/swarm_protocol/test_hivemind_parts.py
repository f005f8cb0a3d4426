"""Parts of hivemind come alone; the rest comes when it is asked for."""

import subprocess
import sys


def run_python(code: str) -> str:
    """Return what a new interpreter prints."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_node_imports_without_the_trainers_of_hivemind() -> None:
    """They bring scipy, which costs each process 40 MiB."""
    loaded = run_python(
        "import sys, swarm_protocol.hivemind; "
        "print({'hivemind.optim', 'hivemind.moe', 'scipy'} & sys.modules.keys())"
    )

    assert loaded == "set()"


def test_the_rest_of_hivemind_comes_when_somebody_asks_for_it() -> None:
    """A program of a user's may use hivemind beside us, imported before or after."""
    names = run_python(
        "import swarm_protocol.hivemind, hivemind; "
        "from hivemind import DHT, Optimizer; "
        "print(hivemind.__name__, DHT.__name__, Optimizer.__name__, hivemind.moe.Server.__name__)"
    )

    assert names == "hivemind DHT Optimizer Server"


def test_a_name_that_hivemind_does_not_have_is_refused_as_ever() -> None:
    """The error is that of any module."""
    answer = run_python(
        "import swarm_protocol, hivemind; "
        "print(hasattr(hivemind, 'nonsense'), hivemind.__version__)"
    )

    assert answer.startswith("False 1.")


def test_hivemind_stays_as_it_is_when_it_was_imported_before() -> None:
    """Its names are then there already."""
    names = run_python(
        "import hivemind; before = hivemind.DHT; import swarm_protocol.hivemind; "
        "print(hivemind.DHT is before, swarm_protocol.hivemind.HivemindNode.__name__)"
    )

    assert names == "True HivemindNode"
