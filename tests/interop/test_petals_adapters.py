"""An adapter that peft itself has saved, on our servers, for a client of the Petals release."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
import torch
from transformers import LlamaForCausalLM

from swarm_protocol.hivemind import NodeSettings
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from tests.harness import petals
from tests.harness.lora_adapters import merged_model
from tests.harness.tiny_models import save_tiny_llama
from tests.interop.pushing_node import PushingNode

pytestmark = [
    pytest.mark.skipif(not petals.is_installed(), reason=petals.REASON_ABSENT),
    pytest.mark.timeout(120),
]

PREFIX = "tiny"
PROMPT = [5, 6, 7]
NUM_NEW = 12

SAVE_WITH_PEFT: Final = """
import sys
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

torch.manual_seed(0)
config = LoraConfig(
    r=4, lora_alpha=2, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False
)
model = get_peft_model(AutoModelForCausalLM.from_pretrained(sys.argv[1]), config)
model.save_pretrained(sys.argv[2], safe_serialization=True)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = save_tiny_llama(tmp_path_factory.mktemp("adapters") / "tiny")
    petals.write_old_config(directory)
    return directory


@pytest.fixture
async def adapter(model: Path) -> Path:
    """Saved by peft, beside the model, and called `mine`."""
    directory = model.parent / "mine"
    await petals.run_program("-c", SAVE_WITH_PEFT, str(model), str(directory))
    return directory


@pytest.fixture
async def bootstrap(model: Path, adapter: Path) -> AsyncIterator[PushingNode]:
    """The first of two nodes, whose servers hold blocks 0:2 and 2:4 and the adapter.

    A step after the first is pushed from the one to the other.
    """
    async with AsyncExitStack() as cleanup:
        first = await PushingNode.start(NodeSettings())
        cleanup.push_async_callback(first.close)
        second = await PushingNode.start(NodeSettings(initial_peers=first.maddrs))
        cleanup.push_async_callback(second.close)
        for node, blocks in ((first, "0:2"), (second, "2:4")):
            settings = ServerSettings(
                model=str(model),
                blocks=blocks,
                dht_prefix=PREFIX,
                dtype="float32",
                threads=1,
                adapters=(str(adapter),),
            )
            server = await BlockServer.start(node, settings)
            cleanup.push_async_callback(server.close)
        yield first


async def generate_with_petals(
    model: Path, bootstrap: PushingNode, active_adapter: str | None
) -> list[int]:
    """Return new ids of the release's client, which reads such options from the config as well."""
    config_path = model / "config.json"
    config = json.loads(config_path.read_text())
    config_path.write_text(json.dumps(config | {"active_adapter": active_adapter}))
    answer = await petals.run(
        *("generate", str(model), "--prefix", PREFIX, "--max_retries", "2"),
        *("--ids", ",".join(map(str, PROMPT)), "--new", str(NUM_NEW)),
        *("--initial_peers", *bootstrap.maddrs),
    )
    return list(answer["new_ids"])


def expected_ids(whole: LlamaForCausalLM) -> list[int]:
    output = whole.generate(torch.tensor([PROMPT]), max_new_tokens=NUM_NEW, do_sample=False)
    new_ids: list[int] = output[0, len(PROMPT) :].tolist()
    return new_ids


async def test_petals_client_gets_the_adapter_that_it_names(
    model: Path, adapter: Path, bootstrap: PushingNode
) -> None:
    """Tokens are those of merged weights, in pushed steps too; without a name, the bare model's."""
    adapted = expected_ids(merged_model(model, adapter))
    bare = expected_ids(LlamaForCausalLM.from_pretrained(model, dtype=torch.float32))
    assert adapted != bare

    assert await generate_with_petals(model, bootstrap, "mine") == adapted
    assert (bootstrap.num_pushed, bootstrap.refusals) == (NUM_NEW - 1, [])
    assert await generate_with_petals(model, bootstrap, None) == bare
