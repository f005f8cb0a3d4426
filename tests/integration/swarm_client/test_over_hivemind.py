"""The same client over real libp2p on loopback."""

from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from swarm_client import AutoDistributedModelForCausalLM
from swarm_client.loop_thread import LoopThread
from swarm_protocol.hivemind import HivemindNode, NodeSettings
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings

PROMPT = torch.tensor([[1, 50, 60, 70, 80]])


def test_greedy_tokens_equal_transformers_over_libp2p(tiny_llama: Path) -> None:
    """A server's node and a client's node, found through the DHT."""
    thread = LoopThread()

    async def serve() -> tuple[HivemindNode, BlockServer]:
        node = await HivemindNode.start(NodeSettings())
        settings = ServerSettings(model=str(tiny_llama), dtype="float32", threads=1)
        return node, await BlockServer.start(node, settings)

    async def stop(node: HivemindNode, server: BlockServer) -> None:
        await server.close()
        await node.close()

    node, server = thread.run(serve())
    try:
        model = AutoDistributedModelForCausalLM.from_pretrained(
            str(tiny_llama), initial_peers=node.maddrs, torch_dtype="float32"
        )
        tokens = model.generate(PROMPT, max_new_tokens=10, do_sample=False)
        model.close()
    finally:
        thread.run(stop(node, server))
        thread.close()

    whole = LlamaForCausalLM.from_pretrained(tiny_llama)
    assert tokens.equal(whole.generate(PROMPT, max_new_tokens=10, do_sample=False))
