"""Options that several commands share, and what they mean together."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from swarm_protocol.identifiers import PEER_MADDR
from swarmgate.errors import OptionError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from swarm_protocol.hivemind import NodeSettings

LOOPBACK_MADDR = "/ip4/127.0.0.1/tcp/0"
_EXAMPLE: Final = "/ip4/192.0.2.10/tcp/31337"
_MADDR: Final = re.compile(r"/.")

InitialPeers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MADDR",
        help="Full multiaddr of a peer to join by, e.g. "
        "/ip4/127.0.0.1/tcp/31337/p2p/Qm…, or @FILE that holds some; repeatable.",
    ),
]
NewSwarm = Annotated[bool, typer.Option("--new-swarm", help="Start a swarm of its own.")]
Identity = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        dir_okay=False,
        help="Private key of this peer; made when missing. Without one, every start is a new peer.",
    ),
]
HostMaddrs = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MADDR",
        help="Address to listen at, e.g. /ip4/0.0.0.0/tcp/31337; "
        "repeatable. Default: a free port on loopback.",
    ),
]
AnnounceMaddrs = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MADDR",
        help="Address at which others can reach this peer, when it is not the one it listens at; "
        "repeatable.",
    ),
]
LogFormat = Annotated[
    Literal["json", "console"], typer.Option(help="Form of the log lines on stderr.")
]
Url = Annotated[
    str, typer.Option(envvar="GATEWAY_URL", help="The gateway to use.", show_envvar=True)
]
ApiKey = Annotated[
    str | None,
    typer.Option(envvar="GATEWAY_API_KEY", help="Key of a gateway that asks for one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def split_list(values: Sequence[str] | None) -> tuple[str, ...]:
    """Return the values of a repeatable option, each of which may hold several."""
    return tuple(part for value in values or () for part in value.replace(",", " ").split())


def read_peers(values: Sequence[str] | None) -> tuple[str, ...]:
    """Return the multiaddrs of `--initial-peers`, those in files included.

    Raises:
        OptionError: a file cannot be read, or holds none; one is no address of a peer.
    """
    peers: list[str] = []
    for value in split_list(values):
        peers += _read_peers_file(Path(value[1:])) if value.startswith("@") else [value]
    _check_maddrs("--initial-peers", peers, PEER_MADDR, f"{_EXAMPLE}/p2p/Qm…")
    return tuple(peers)


def check_swarm_choice(initial_peers: Sequence[str], *, is_new: bool) -> None:
    """Return when exactly one of `--initial-peers` and `--new-swarm` is given.

    Raises:
        OptionError: both or neither are.
    """
    if initial_peers and is_new:
        raise OptionError("--new-swarm and --initial-peers exclude each other")
    if not initial_peers and not is_new:
        raise OptionError("say which swarm to join with --initial-peers, or use --new-swarm")


def wrong_options(error: "ValidationError", *, argument: str) -> OptionError:
    """Return one error for all values that do not fit.

    Args:
        argument: the field that is no option, but the command's argument.
    """
    # Imported here: it brings pydantic, which `--help` need not wait for.
    from app.validation import sentence_of

    return OptionError(
        "; ".join(
            f"{_place_of(problem['loc'], argument)}{sentence_of(problem)}"
            for problem in error.errors(include_url=False)
        )
    )


def make_node_settings(
    initial_peers: Sequence[str],
    identity: Path | None,
    host_maddrs: Sequence[str] | None,
    announce_maddrs: Sequence[str] | None,
    *,
    has_shortcuts: bool = True,
) -> "NodeSettings":
    """Return how to join the swarm.

    Raises:
        OptionError: an address to listen at, or to announce, is no multiaddr.
    """
    _check_maddrs("--host-maddrs", split_list(host_maddrs), _MADDR, _EXAMPLE)
    _check_maddrs("--announce-maddrs", split_list(announce_maddrs), _MADDR, _EXAMPLE)
    # Imported here: it brings hivemind and torch, which `--help` need not wait for.
    from swarm_protocol.hivemind import NodeSettings

    return NodeSettings(
        initial_peers=initial_peers,
        host_maddrs=split_list(host_maddrs) or (LOOPBACK_MADDR,),
        announce_maddrs=split_list(announce_maddrs),
        identity_path=identity,
        has_shortcuts=has_shortcuts,
    )


def _check_maddrs(option: str, maddrs: Iterable[str], form: re.Pattern[str], example: str) -> None:
    """The daemon would tell of a wrong one after many attempts, and in its own words."""
    for maddr in maddrs:
        if not form.match(maddr):
            raise OptionError(f"{option}: expected a multiaddr like {example}, got {maddr!r:.80}")


def _place_of(location: Sequence[int | str], argument: str) -> str:
    """Return `--option: ` or `ARGUMENT: `, and nothing for what several options have caused."""
    field = next((step for step in reversed(location) if isinstance(step, str)), "")
    name = field.upper() if field == argument else f"--{field.replace('_', '-')}"
    return f"{name}: " if field else ""


def _read_peers_file(path: Path) -> list[str]:
    try:
        peers = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"cannot read the addresses of peers in {path}") from error
    if not peers:
        raise OptionError(f"{path} holds no address of a peer")
    return peers
