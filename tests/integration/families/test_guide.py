"""The guide to a new family works as printed."""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

import swarm_client.models.registry as client_registry
import swarm_server.loading.registry as server_registry
from swarm_client import AutoDistributedModelForCausalLM
from swarm_client.models import model_classes
from swarm_protocol.errors import UnsupportedModelError
from swarm_server.loading.architecture import Architecture, Config
from tests.harness.programs import ROOT
from tests.integration.swarm_client.local_model import node_with_servers

MODULES: Final[Mapping[str, str]] = dict(
    re.findall(
        r"^```python file=(\S+)\n(.*?)^```$",
        (ROOT / "docs/guide/add-a-family.md").read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
)
PROMPT: Final = torch.tensor([[1, 50, 60, 70, 80, 90, 100]])


@pytest.fixture
def qwen2(tmp_path: Path) -> Path:
    """A small random Qwen2, with biases."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=262,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        eos_token_id=2,
    )
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    model.save_pretrained(tmp_path / "qwen2")
    return tmp_path / "qwen2"


def module_of(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return what the guide puts into a new file."""
    name = path.removesuffix(".py").replace("/", ".")
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(MODULES[path], module.__dict__)
    return module


def extend(module: ModuleType, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add to a module what the guide adds to its file."""
    names = dict(vars(module))
    exec(MODULES[path], names)
    for name in names.keys() - vars(module).keys():
        monkeypatch.setattr(module, name, names[name], raising=False)


def test_a_family_added_by_the_guide_writes_what_transformers_writes(
    qwen2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, its name is refused; after, its tokens are transformers'."""
    with pytest.raises(UnsupportedModelError, match="qwen2"):
        server_registry.open_model(str(qwen2))
    server = module_of("swarm_server/loading/qwen2.py", monkeypatch)
    served: dict[str, Callable[[Config], Architecture]] = {"qwen2": server.Qwen2}
    monkeypatch.setattr(server_registry, "FAMILIES", served)
    client = module_of("swarm_client/models/qwen2.py", monkeypatch)
    monkeypatch.setattr(client_registry, "FAMILIES", (client.QWEN2,))
    extend(model_classes, "swarm_client/models/model_classes.py", monkeypatch)

    model = AutoDistributedModelForCausalLM.from_pretrained(
        str(qwen2), torch_dtype="float32", node_factory=node_with_servers(qwen2, ["0:2", "2:4"])
    )
    tokens = model.generate(PROMPT, max_new_tokens=12, do_sample=False)
    model.close()

    assert type(model).__name__ == "DistributedQwen2ForCausalLM"
    whole = AutoModelForCausalLM.from_pretrained(qwen2, dtype=torch.float32)
    assert tokens.equal(whole.generate(PROMPT, max_new_tokens=12, do_sample=False))
