"""Adapters of a hub, fetched by huggingface_hub's real code from a small hub on loopback."""

from pathlib import Path

import pytest
import torch

from swarm_protocol.checkpoint import HubSettings
from swarm_protocol.errors import CheckpointError
from swarm_protocol.identifiers import BlockRange
from swarm_server.adapters import AdapterFiles
from swarm_server.loading import load_span, open_model
from tests.harness.hub_server import HubServer
from tests.harness.lora_adapters import CONFIG_FILE, WEIGHTS_FILE, save_lora

NAME = "organization/lora"


def test_only_the_two_files_of_an_adapter_are_fetched(tiny_llama: Path, tmp_path: Path) -> None:
    """It keeps the repository's name, under which Petals clients ask for it."""
    directory = save_lora(tmp_path / "mine", tiny_llama, ["q_proj"])
    (directory / "adapter_model.bin").write_bytes(b"pickled")
    model, blocks = open_model(str(tiny_llama)), BlockRange(1, 2)
    local = AdapterFiles.open(str(directory), hub=HubSettings())

    with HubServer() as hub:
        hub.publish(NAME, directory)
        settings = HubSettings(endpoint=hub.url, directory=tmp_path / "storage")
        fetched = AdapterFiles.open(NAME, hub=settings)

    assert set(hub.sent_bytes) == {CONFIG_FILE, WEIGHTS_FILE}
    span = load_span(model, blocks, dtype=torch.float32, adapters=[fetched, local])
    (from_hub,), (from_directory,) = span.adapters[NAME], span.adapters["mine"]
    assert from_hub["qkv"].up.equal(from_directory["qkv"].up)


def test_a_repository_that_is_not_there_is_named(tmp_path: Path) -> None:
    """As one of a model is."""
    with HubServer() as hub:
        settings = HubSettings(endpoint=hub.url, directory=tmp_path / "storage")

        with pytest.raises(CheckpointError, match=NAME):
            AdapterFiles.open(NAME, hub=settings)
