"""A prompt longer than any step that servers take."""

from pathlib import Path

import torch

from swarm_client.connection import SwarmConnection
from swarm_client.models import read_facts
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.identifiers import BlockRange
from swarm_server.settings import ServerSettings
from tests.harness.local_layers import LocalLayers
from tests.harness.server_swarm import server_swarm
from tests.harness.tiny_models import save_tiny_llama
from tests.integration.swarm_server.raw_session import hidden_states


async def test_a_prefill_of_5000_tokens_passes_servers_that_take_2048_at_once(
    tmp_path: Path,
) -> None:
    """In one row and in several; outputs equal those of transformers, which runs it in one piece.

    On a server of the release the same is in `tests/interop/test_petals_sessions`.
    """
    model = save_tiny_llama(tmp_path / "long", num_blocks=2, max_positions=8192)
    layers = LocalLayers(model, BlockRange(0, 2))
    limits = ServerSettings(model="-", dtype="float32", threads=1, max_batch_tokens=2048)
    async with server_swarm(model, ["0:1", "1:2"], limits) as (network, _):
        connection = SwarmConnection(network.node("client"))
        client = await connection.watch(read_facts(Checkpoint.open(str(model))))
        for hidden in (hidden_states(1, 5000), hidden_states(3, 1700)):
            batch_size, num_tokens, _ = hidden.shape
            async with await client.open_session(
                max_length=num_tokens, batch_size=batch_size
            ) as session:
                outputs = await session.step(hidden)

            with torch.inference_mode():
                # Sums run over thousands of tokens.
                torch.testing.assert_close(outputs, layers(hidden), atol=1e-3, rtol=0)
        await connection.close()
