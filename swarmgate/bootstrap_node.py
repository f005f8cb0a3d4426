"""A peer without blocks, by which others find the swarm."""

from pathlib import Path

from swarm_protocol.hivemind import HivemindNode, NodeSettings, make_identity
from swarmgate.errors import CommandError
from swarmgate.service import print_ready


async def run_bootstrap(settings: NodeSettings, maddrs_file: Path | None) -> None:
    """Keep the peer until cancelled, its addresses in `maddrs_file`, one a line.

    Raises:
        NodeError: it cannot start or join, or its daemon has ended.
        CommandError: the file cannot be written.
    """
    if settings.identity_path is not None:
        make_identity(settings.identity_path)
    node = await HivemindNode.start(settings)
    try:
        if maddrs_file is not None:
            _write_lines(maddrs_file, node.maddrs)
        print_ready(peer_id=node.peer_id, maddrs=node.maddrs)
        await node.wait_stopped()
    finally:
        await node.close()


def _write_lines(path: Path, lines: tuple[str, ...]) -> None:
    try:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from error
