"""The guide's page on adapters: a server started by its command, clients made by its snippet."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from swarm_client.errors import NoRouteError
from tests.harness.lora_adapters import merged_model, save_lora
from tests.harness.programs import ROOT, Program

pytestmark = pytest.mark.timeout(60)

PAGE: Final = (ROOT / "docs/guide/adapters.md").read_text(encoding="utf-8")
PEER: Final = "/ip4/203.0.113.7/tcp/31337/p2p/Qm…"
PROMPT: Final = torch.tensor([[1, 50, 60, 70, 80]])


@dataclass(frozen=True, slots=True)
class AdaptedServer:
    """A running server of the page's two adapters, found at `maddr`."""

    model: Path
    adapters: dict[str, Path]
    maddr: str

    def client(self, adapter: str) -> Any:
        """Return the `model` that the page's Python makes, with names of ours in it."""
        snippet = block_of("python")
        for name, ours in {
            "organization/model": str(self.model),
            PEER: self.maddr,
            "legal-lora": adapter,
        }.items():
            assert name in snippet
            snippet = snippet.replace(name, ours)
        namespace: dict[str, Any] = {}
        exec(snippet, namespace)
        return namespace["model"]


def block_of(language: str) -> str:
    """Return the page's only block in a language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return str(block)


def command_with(names: dict[str, str]) -> list[str]:
    """Return the arguments of the page's command, with other names, and for a new swarm."""
    words = shlex.split(block_of("bash").replace("\\\n", ""))
    peers = words.index("--initial-peers")
    arguments = [*words[1:peers], "--new-swarm", *words[peers + 2 :]]
    assert names.keys() <= {*arguments}
    return [names.get(word, word) for word in arguments]


@pytest.fixture(scope="module")
def server(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdaptedServer]:
    """The page's server, of a small model."""
    storage = tmp_path_factory.mktemp("adapters")
    adapters = {
        "polite-lora": save_lora(storage / "polite-lora", tiny_llama, ["q_proj"], seed=1),
        "legal-lora": save_lora(storage / "legal-lora", tiny_llama, ["down_proj"], seed=2),
    }
    command = command_with(
        {
            "organization/model": str(tiny_llama),
            "0:16": "0:4",
            "organization/polite-lora": str(adapters["polite-lora"]),
            "/data/adapters/legal-lora": str(adapters["legal-lora"]),
        }
    )
    with Program(*command, "--threads", "1") as program:
        ready = json.loads(program.wait_for('"ready": true', timeout_s=30))
        yield AdaptedServer(tiny_llama, adapters, ready["maddrs"][0])


@pytest.mark.parametrize("adapter", ["polite-lora", "legal-lora"])
def test_a_client_writes_with_the_adapter_that_it_names(
    server: AdaptedServer, adapter: str
) -> None:
    """As transformers does with merged weights."""
    model = server.client(adapter)
    tokens = model.generate(PROMPT, max_new_tokens=8, do_sample=False)
    model.close()

    whole = merged_model(server.model, server.adapters[adapter])
    assert tokens.equal(whole.generate(PROMPT, max_new_tokens=8, do_sample=False))


def test_an_adapter_that_nobody_has_is_named(server: AdaptedServer) -> None:
    """And the blocks that it is missing on."""
    model = server.client("no-such-lora")

    with pytest.raises(NoRouteError, match="blocks 0:4 with the adapter no-such-lora"):
        model.generate(PROMPT, max_new_tokens=2)
    model.close()
