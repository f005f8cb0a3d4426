"""docker-compose.yml and Dockerfile name things that exist, and are safe by default.

There is no Docker engine here; what can be read from the files is checked.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from app.settings import Settings
from swarmgate.cli import app as command_line

ROOT: Final = Path(__file__).resolve().parents[2]
PEERS: Final = ("bootstrap", "server-1", "server-2", "gateway")
INSTRUCTIONS: Final = {
    *("ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM"),
    *("HEALTHCHECK", "RUN", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """Instructions and their arguments, continuation lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"(?m)^#.*\n", "", text).replace("\\\n", " ").splitlines()
    words = [line.split(maxsplit=1) for line in lines if line.strip()]
    return [(word[0], word[1].strip()) for word in words]


def substitute(text: str, variables: dict[str, str]) -> str:
    """Fill in `${NAME:-default}` and `${NAME:?message}` as compose does."""

    def value(match: re.Match[str]) -> str:
        name, operator, rest = match[1], match[2], match[3]
        if name not in variables and operator == ":?":
            raise KeyError(name)
        return variables.get(name, rest)

    return re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", value, text)


def test_compose_has_every_part_of_a_swarm(compose: dict[str, Any]) -> None:
    """Redis, a bootstrap, two servers and the gateway; and what watches them."""
    assert set(compose["services"]) == {"redis", *PEERS, "prometheus", "grafana"}


@pytest.mark.parametrize("name", PEERS)
def test_every_command_of_compose_parses_as_ours(compose: dict[str, Any], name: str) -> None:
    """A renamed command or option fails here and not in somebody's container."""
    command, *options = (substitute(word, {}) for word in compose["services"][name]["command"])

    group = get_command(command_line)
    assert isinstance(group, TyperGroup)
    context = group.commands[command].make_context(command, options)

    assert context.params["initial_peers" if name != "bootstrap" else "maddrs_file"]


def test_every_service_reports_its_health_and_restarts(compose: dict[str, Any]) -> None:
    """A service that is down must not look up."""
    for service in compose["services"].values():
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["restart"] == "unless-stopped"


def test_every_service_runs_without_privileges(compose: dict[str, Any]) -> None:
    """No capabilities, no new privileges, no writable root file system."""
    for service in compose["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True


def test_only_gateway_and_dashboard_are_published_and_only_on_loopback(
    compose: dict[str, Any],
) -> None:
    """Whoever wants more must write it down."""
    ports = {name: s["ports"] for name, s in compose["services"].items() if "ports" in s}

    assert {name: [substitute(port, {}) for port in p] for name, p in ports.items()} == {
        "gateway": ["127.0.0.1:8000:8000"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_compose_refuses_to_start_without_api_keys(compose: dict[str, Any]) -> None:
    """The gateway listens on every address of its container, so it must ask for keys."""
    keys = compose["services"]["gateway"]["environment"]["SWARMGATE_API_KEYS"]

    with pytest.raises(KeyError):
        substitute(keys, {})
    assert substitute(keys, {"SWARMGATE_API_KEYS": "a-long-key"}) == "a-long-key"


def test_compose_sets_only_settings_that_exist(compose: dict[str, Any]) -> None:
    """The gateway refuses to start with an unknown name."""
    names = compose["services"]["gateway"]["environment"]

    assert {name.removeprefix("SWARMGATE_").lower() for name in names} <= set(Settings.model_fields)


def test_every_volume_is_declared_and_each_identity_has_its_own(compose: dict[str, Any]) -> None:
    """Two peers with one identity would be one peer."""
    mounts = {name: s["volumes"] for name, s in compose["services"].items()}

    states = [m.split(":")[0] for mount in mounts.values() for m in mount if "/srv/state" in m]
    named = {m.split(":")[0] for mount in mounts.values() for m in mount if m[0] != "."}
    assert named == set(compose["volumes"])
    assert len(states) == len(set(states)) == len(PEERS)


def test_servers_can_compile_their_kernels_and_keep_them(
    compose: dict[str, Any], dockerfile: list[tuple[str, str]]
) -> None:
    """The root file system cannot be written to, and nothing in /tmp can be executed."""
    volumes = next(json.loads(arguments) for name, arguments in dockerfile if name == "VOLUME")
    caches = [
        v.split(":")[1] for n in (1, 2) for v in compose["services"][f"server-{n}"]["volumes"]
    ]

    assert any(name == "RUN" and " gcc " in arguments for name, arguments in dockerfile)
    assert "/home/swarmgate/.cache" in volumes
    assert caches.count("/home/swarmgate/.cache") == 2


def test_the_dockerfile_has_only_instructions_that_exist(dockerfile: list[tuple[str, str]]) -> None:
    """A typing error in a Dockerfile shows only when somebody builds it."""
    assert {name for name, _ in dockerfile} <= INSTRUCTIONS
    assert dockerfile[0][0] == "FROM"
    for name, arguments in dockerfile:
        if name in ("CMD", "ENTRYPOINT", "VOLUME"):
            assert all(isinstance(word, str) for word in json.loads(arguments))


def test_the_image_copies_only_what_exists_and_is_not_ignored(
    dockerfile: list[tuple[str, str]],
) -> None:
    """.dockerignore lets nothing in but what it names."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    wanted = {line[1:] for line in ignored if line.startswith("!")}
    sources = [a.split()[:-1] for n, a in dockerfile if n == "COPY" and "--from" not in a]

    assert all((ROOT / path).exists() for path in wanted)
    assert {path.rstrip("/") for paths in sources for path in paths} <= {".", *wanted}


def test_torch_is_installed_first_and_alone(dockerfile: list[tuple[str, str]]) -> None:
    """Else the rest of the dependencies would choose its build."""
    installs = [a for name, a in dockerfile if name == "RUN" and "pip install" in a]

    assert [install.split()[-1] for install in installs] == [
        "requirements/torch.txt",
        "requirements/lock.txt",
        ".",
    ]


def test_the_image_runs_as_nobody_in_particular_and_knows_its_health(
    dockerfile: list[tuple[str, str]],
) -> None:
    """The user of the last stage is not root; the default command is the gateway."""
    instructions = dict(dockerfile)

    assert instructions["USER"] == "swarmgate"
    assert "/health/ready" in instructions["HEALTHCHECK"]
    assert json.loads(instructions["ENTRYPOINT"]) == ["swarmgate"]
    assert json.loads(instructions["CMD"]) == ["gateway"]
