"""`swarmgate up`: real processes, a real swarm, and nothing left behind."""

import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator

import psutil
import pytest

from tests.harness.programs import (
    DEMO_MODEL,
    Program,
    free_port,
    get_json,
    running_swarm,
    still_alive,
)

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def swarm() -> Iterator[tuple[Program, str]]:
    """A running swarm of two servers, and its URL."""
    with running_swarm() as started:
        yield started


def holding(program: Program, start: str) -> psutil.Process:
    """Return the server of `program` whose blocks begin with `start`."""
    return next(p for p in program.family() if f"{start}" in p.cmdline() and "serve" in p.cmdline())


def test_up_tells_how_it_gets_on_and_how_to_go_on(swarm: tuple[Program, str]) -> None:
    """Every process by name, the first token's time, the URLs, and a line to paste."""
    program, url = swarm
    program.wait_for("Ctrl-C", timeout_s=5)

    assert "server 1 of 2 holds blocks 0:4" in program.output
    assert "server 2 of 2 holds blocks 4:8" in program.output
    assert re.search(r"first token after \d+\.\d s", program.output)
    assert f"{url}/" in program.output


def test_the_curl_line_that_up_prints_is_answered(swarm: tuple[Program, str]) -> None:
    """Ready to paste means that it works."""
    program, _ = swarm
    program.wait_for("Ctrl-C", timeout_s=5)
    line = re.search(r"curl .*\\\n.*'\n", program.output)
    assert line is not None

    answer = subprocess.run(
        ["bash", "-c", f"{line[0].strip()} -sS"], capture_output=True, check=True, timeout=30
    )

    assert json.loads(answer.stdout)["choices"][0]["message"]["content"]


def test_the_oldest_api_answers(swarm: tuple[Program, str]) -> None:
    """`POST /api/v1/generate`, with a form as curl sends it."""
    _, url = swarm
    form = ["-d", "model=demo", "-d", "inputs=Hello", "-d", "max_new_tokens=4"]

    answer = subprocess.run(
        ["curl", "-sS", f"{url}/api/v1/generate", *form], capture_output=True, check=True
    )

    assert json.loads(answer.stdout)["ok"] is True


def test_the_servers_are_processes_of_their_own(swarm: tuple[Program, str]) -> None:
    """The default is the real thing on loopback: two servers, two peers, one route."""
    _, url = swarm

    (model,) = get_json(f"{url}/api/v1/swarm")["models"]

    assert model["is_reachable"]
    assert [server["blocks"] for server in model["servers"]] == [[0, 4], [4, 8]]
    assert len({server["peer_id"] for server in model["servers"]}) == 2


def test_status_and_generate_talk_to_the_gateway(swarm: tuple[Program, str]) -> None:
    """The commands for people and scripts, on the same swarm."""
    _, url = swarm
    with Program("status", "--url", url) as status:
        assert status.wait(timeout_s=20) == 0
    with Program("generate", "Once", "--max-new-tokens", "3", "--json", "--url", url) as generate:
        assert generate.wait(timeout_s=20) == 0

    assert "demo: 8 blocks, reachable" in status.output
    assert json.loads(generate.output)["finish_reason"] in ("length", "stop")


def test_a_taken_port_is_one_sentence() -> None:
    """Known before anything starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Program("up", "--port", str(port), "--model", DEMO_MODEL) as program:
            assert program.wait(timeout_s=20) == 1

    assert program.lines == [
        f"swarmgate: port {port} on 127.0.0.1 is already taken; stop the program that uses it, "
        f"or choose another port with --port\n"
    ]


def test_a_missing_model_is_one_sentence() -> None:
    """Known before anything starts."""
    with Program("up", "--port", str(free_port()), "--model", "./no-such-model") as program:
        assert program.wait(timeout_s=20) == 1

    assert program.lines == ["swarmgate: there is no directory './no-such-model'\n"]


def test_more_servers_than_blocks_are_one_sentence() -> None:
    """Known before anything starts."""
    port = str(free_port())
    with Program("up", "--port", port, "--model", DEMO_MODEL, "--servers", "9") as program:
        assert program.wait(timeout_s=20) == 1

    assert program.lines == [
        "swarmgate: 9 servers cannot share 8 blocks; use --servers 8 or fewer\n"
    ]


def test_sigterm_stops_everything_and_is_a_success() -> None:
    """Gateway, server and every libp2p daemon; the port is free again."""
    with running_swarm("--servers", "1") as (program, url):
        family = program.family()
        names = [process.name() for process in family]

        program.send(signal.SIGTERM)

        assert program.wait(timeout_s=20) == 0
        assert still_alive(family, timeout_s=5) == []
    assert names.count("p2pd") == 2
    socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))).close()


def test_killing_the_supervisor_leaves_nothing_behind() -> None:
    """`kill -9` cannot be handled: the kernel ends the children, and theirs."""
    with running_swarm("--servers", "1") as (program, _):
        family = program.family()

        program.send(signal.SIGKILL)

        assert program.wait(timeout_s=5) == -signal.SIGKILL
        assert still_alive(family, timeout_s=5) == []


def test_a_dying_server_ends_everything_with_a_sentence_that_names_it() -> None:
    """Half a swarm answers nobody."""
    with running_swarm() as (program, _):
        family = program.family()

        holding(program, "4:8").kill()

        assert program.wait(timeout_s=20) == 1
        assert still_alive(family, timeout_s=5) == []
    assert "swarmgate: server 2 of 2 ended with signal SIGKILL" in program.output
    assert "logs of every process are in" in program.output


def test_a_gateway_ends_when_its_libp2p_daemon_does() -> None:
    """It would look alive, and no token could come back any more."""
    with Program("gateway", "--port", str(free_port())) as program:
        program.wait_for('"ready": true', timeout_s=60)

        next(process for process in program.family() if process.name() == "p2pd").kill()

        assert program.wait(timeout_s=20) == 1
    assert program.lines[-1] == "swarmgate: the libp2p daemon of this process has ended\n"
