"""One process of a private swarm. The processes are real, and tiny."""

import asyncio
import sys
from pathlib import Path

import pytest

from swarmgate.errors import ChildDiedError
from swarmgate.supervisor.child import Child


def program(source: str) -> list[str]:
    return [sys.executable, "-c", source]


async def test_the_facts_of_the_ready_line_are_found_among_other_output(tmp_path: Path) -> None:
    """Libraries print what they like."""
    source = 'print(\'[1]\\nhello\\n{"ready": true, "blocks": "0:4"}\', flush=True); input()'
    child = await Child.start("server 1 of 1", program(source), tmp_path / "log")
    watching = asyncio.create_task(child.watch())

    facts = await child.ready()

    assert facts == {"ready": True, "blocks": "0:4"}
    with pytest.raises(ChildDiedError):  # it has no input to wait for
        await watching


async def test_a_death_is_told_with_name_exit_code_and_last_words(tmp_path: Path) -> None:
    """The last line that says something; our own prefix is not repeated."""
    source = "import sys; sys.exit('noise\\nswarmgate: there is no such model\\n\\n')"
    child = await Child.start("server 2 of 2", program(source), tmp_path / "log")

    with pytest.raises(ChildDiedError) as died:
        await child.watch()

    assert str(died.value) == "server 2 of 2 ended with exit code 1: there is no such model"


async def test_a_killed_child_is_told_with_its_signal(tmp_path: Path) -> None:
    """Such as the kernel's, when memory runs out; what it logged before says nothing of it."""
    ready = "print('{\"ready\": true}', flush=True); signal.pause()"
    source = f"import os, signal; os.write(2, b'a step was made'); {ready}"
    child = await Child.start("the gateway", program(source), tmp_path / "log")
    watching = asyncio.create_task(child.watch())
    await child.ready()
    child.kill()

    with pytest.raises(ChildDiedError, match=r"the gateway ended with signal SIGKILL$"):
        await watching


async def test_ending_a_child_that_has_ended_is_no_error(tmp_path: Path) -> None:
    """It may die at any moment."""
    child = await Child.start("the gateway", program("pass"), tmp_path / "log")
    await child.wait()

    child.terminate()
    child.kill()
