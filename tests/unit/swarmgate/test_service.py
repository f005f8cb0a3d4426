"""How a long-running command lives and ends. In a process of its own, which it sets up."""

import json
import subprocess
import sys

SERVICE = """
import asyncio, os, signal
from swarmgate.service import print_ready, run_until_signalled

async def serve():
    print_ready(url="http://x", maddrs=("a", "b"))
    try:
        os.kill(os.getpid(), signal.{signal})
        await asyncio.sleep(30)
    finally:
        await asyncio.sleep(0)
        print("cleaned up")

run_until_signalled(serve(), log_format="json")
"""


WAITING_FOR_A_HUB = """
import asyncio, os, signal, threading
from swarmgate.service import run_until_signalled

def fetch():
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()

async def serve():
    try:
        await asyncio.to_thread(fetch)
    finally:
        print("cleaned up", flush=True)

run_until_signalled(serve(), log_format="json")
"""


def run(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)


def test_a_signal_lets_the_service_clean_up_and_is_a_success() -> None:
    """SIGTERM from a supervisor, SIGINT from a keyboard."""
    for name in ("SIGTERM", "SIGINT"):
        done = run(SERVICE.replace("{signal}", name))

        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "cleaned up"


def test_the_ready_line_is_one_json_object() -> None:
    """Scripts and the supervisor read it."""
    done = run(SERVICE.replace("{signal}", "SIGTERM"))

    assert json.loads(done.stdout.splitlines()[0]) == {
        "ready": True,
        "url": "http://x",
        "maddrs": ["a", "b"],
    }


def test_a_thread_that_does_not_end_keeps_nobody() -> None:
    """A hub that does not answer, or a file of gigabytes, would hold Ctrl-C up."""
    done = run(WAITING_FOR_A_HUB)

    assert (done.returncode, done.stdout) == (0, "cleaned up\n"), done.stderr
