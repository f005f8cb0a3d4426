"""Checkpoints from a hub: huggingface_hub's real code against a small hub on loopback."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from swarm_client.models import load_local_parts
from swarm_protocol.checkpoint import Checkpoint, HubSettings
from swarm_protocol.checkpoint.hub import use_of_process
from swarm_protocol.checkpoint.retries import Retries
from swarm_protocol.errors import CheckpointError, DiskFullError, UnsupportedModelError
from swarm_protocol.identifiers import BlockRange
from swarm_server.loading import load_span, open_model
from tests.harness.hub_server import HubServer
from tests.harness.tiny_models import save_tiny_llama

NAME = "organization/model"
MEGABYTE = 1_000_000


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture
def settings(hub: HubServer, tmp_path: Path) -> HubSettings:
    retries = Retries(retry_s=5.0, pause_s=0.01)
    return HubSettings(endpoint=hub.url, directory=tmp_path / "storage", retries=retries)


def save_sharded(directory: Path, *, seed: int = 0, num_shards: int = 2) -> Path:
    """Save a checkpoint whose tensor `i` is 1 MB and alone in its shard."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"model_type": "llama", "seed": seed}))
    names = {str(index): f"shard-{index}.safetensors" for index in range(num_shards)}
    for name, shard in names.items():
        save_file({name: tensor(seed, int(name))}, directory / shard)
    index = {"weight_map": names}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory


def tensor(seed: int, index: int) -> torch.Tensor:
    return torch.full((MEGABYTE // 4,), 10.0 * seed + index)


def test_only_the_files_of_the_wanted_tensors_are_fetched(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """A server of a few blocks must not fetch the files of the others."""
    hub.publish(NAME, save_sharded(tmp_path / "model"))

    tensors = Checkpoint.open(NAME, hub=settings).load(["1"])

    assert torch.equal(tensors["1"], tensor(0, 1))
    assert set(hub.sent_bytes) == {
        "config.json",
        "model.safetensors.index.json",
        "shard-1.safetensors",
    }


def test_a_client_fetches_the_local_parts_and_no_blocks(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """Its share of a model is a few percent."""
    model = save_tiny_llama(tmp_path / "model", num_blocks=4, shard_size="100KB")
    hub.publish(NAME, model)
    index = json.loads((model / "model.safetensors.index.json").read_text())["weight_map"]
    wanted = {shard for name, shard in index.items() if ".layers." not in name}

    load_local_parts(Checkpoint.open(NAME, hub=settings), dtype=torch.float32)

    assert {name for name in hub.sent_bytes if name.endswith(".safetensors")} == wanted
    assert len(wanted) < len(set(index.values()))


def test_a_server_fetches_its_blocks_and_no_others(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """What it does not serve it need not have."""
    model = save_tiny_llama(tmp_path / "model", num_blocks=4, shard_size="100KB")
    hub.publish(NAME, model)
    index = json.loads((model / "model.safetensors.index.json").read_text())["weight_map"]
    wanted = {shard for name, shard in index.items() if ".layers.1." in name}

    load_span(open_model(NAME, hub=settings), BlockRange(1, 2), dtype=torch.float32)

    assert {name for name in hub.sent_bytes if name.endswith(".safetensors")} == wanted
    assert len(wanted) < len(set(index.values()))


def test_a_stored_file_is_not_fetched_again(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """Neither is one that the hub has said does not exist."""
    hub.publish(NAME, save_sharded(tmp_path / "model"))
    for _ in range(2):
        checkpoint = Checkpoint.open(NAME, hub=settings)
        checkpoint.load(["0"])
        assert checkpoint.read_json("generation_config.json") is None

    assert hub.sent_bytes["shard-0.safetensors"] < 2 * MEGABYTE
    asked = [path for _, path in hub.requests if path.endswith("generation_config.json")]
    assert len(asked) == 1


def test_a_broken_transfer_goes_on_where_it_ended(
    hub: HubServer, settings: HubSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has arrived is not sent a second time."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)  # as far as it may fall back
    model = save_sharded(tmp_path / "model")
    hub.publish(NAME, model)
    hub.cut("shard-0.safetensors", after_bytes=MEGABYTE // 2)

    tensors = Checkpoint.open(NAME, hub=settings).load(["0"])

    assert torch.equal(tensors["0"], tensor(0, 0))
    size_bytes = (model / "shard-0.safetensors").stat().st_size
    assert hub.sent_bytes["shard-0.safetensors"] <= size_bytes + 50_000


def test_a_hub_that_stumbles_is_asked_again(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """An overloaded hub recovers within seconds."""
    hub.publish(NAME, save_sharded(tmp_path / "model"))
    hub.fail("shard-0.safetensors", 502, times=3)

    assert torch.equal(Checkpoint.open(NAME, hub=settings).load(["0"])["0"], tensor(0, 0))


def test_a_hub_that_stays_broken_is_given_up_at_the_deadline(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """The sentence names the file and what the hub said."""
    hub.publish(NAME, save_sharded(tmp_path / "model"))
    hub.fail("shard-0.safetensors", 500, times=1000)
    impatient = HubSettings(hub.url, settings.directory, retries=Retries(0.1, 0.01))

    with pytest.raises(CheckpointError, match=r"shard-0.safetensors .* answered 500"):
        Checkpoint.open(NAME, hub=impatient).load(["0"])


def test_a_branch_that_moves_does_not_mix_commits(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """Config and weights, and two openings in one process, are of the same commit."""
    hub.publish(NAME, save_sharded(tmp_path / "first", seed=1))
    checkpoint = Checkpoint.open(NAME, hub=settings)
    hub.publish(NAME, save_sharded(tmp_path / "second", seed=2))

    assert torch.equal(checkpoint.load(["0"])["0"], tensor(1, 0))
    assert Checkpoint.open(NAME, hub=settings).config["seed"] == 1


def test_a_revision_may_be_a_branch_or_a_commit(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """A commit is the way to pin a model for good."""
    first = hub.publish(NAME, save_sharded(tmp_path / "first", seed=1))
    hub.publish(NAME, save_sharded(tmp_path / "second", seed=2), branch="next")

    assert Checkpoint.open(NAME, revision=first, hub=settings).config["seed"] == 1
    assert Checkpoint.open(NAME, revision="next", hub=settings).config["seed"] == 2
    with pytest.raises(CheckpointError, match="no revision 'gone'"):
        Checkpoint.open(NAME, revision="gone", hub=settings)


def test_an_unknown_repository_is_refused_in_one_sentence(settings: HubSettings) -> None:
    """The name may have been meant as a directory."""
    with pytest.raises(CheckpointError, match="neither a directory here nor a repository"):
        Checkpoint.open("nobody/nothing", hub=settings)


def test_pickled_weights_are_refused_and_not_fetched(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """A pickle runs code of whoever wrote it."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "pytorch_model.bin").write_bytes(b"anything")
    hub.publish(NAME, model)

    with pytest.raises(CheckpointError, match=r"pickled \.bin files are not read"):
        Checkpoint.open(NAME, hub=settings).load(["0"])
    assert "pytorch_model.bin" not in hub.sent_bytes


def test_code_of_a_model_is_not_fetched(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """A model that only its own code could run is refused, and the sentence says so."""
    model = save_sharded(tmp_path / "model")
    (model / "config.json").write_text('{"model_type": "x", "auto_map": {"AutoModel": "code.X"}}')
    (model / "code.py").write_text("raise SystemExit")
    hub.publish(NAME, model)

    with pytest.raises(UnsupportedModelError, match="code of its own, which is never run"):
        open_model(NAME, hub=settings)
    assert "code.py" not in hub.sent_bytes


def test_least_recently_used_files_make_room_under_the_limit(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """Old models of other processes go; the one in use stays, and so does what was used lately."""
    storage = fill_storage(hub, settings, tmp_path)
    limited = HubSettings(hub.url, storage, 3 * MEGABYTE + MEGABYTE // 2, settings.retries)

    Checkpoint.open("new/model", hub=limited).load(["0"])

    stored = {path.parts[-4]: path for path in storage.glob("models--*/snapshots/*/shard-0*")}
    assert set(stored) == {"models--lately--model", "models--new--model"}
    assert sum(path.stat().st_size for path in storage.glob("*/blobs/*")) <= 3.5 * MEGABYTE


def fill_storage(hub: HubServer, settings: HubSettings, tmp_path: Path) -> Path:
    """Store two models of 2 MB, as if other processes had; publish a third of 1 MB."""
    assert settings.directory is not None
    for seed, name in enumerate(["long-ago/model", "lately/model"]):
        hub.publish(name, save_sharded(tmp_path / str(seed), seed=seed))
        Checkpoint.open(name, hub=settings).load(["0", "1"])
    hub.publish("new/model", save_sharded(tmp_path / "new", seed=7, num_shards=1))
    use_of_process().kept.clear()
    for blob in settings.directory.glob("models--long-ago--model/blobs/*"):
        os.utime(blob, (1.0, 1.0))
    return settings.directory


def test_what_this_process_uses_is_never_evicted(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """Rather the new file is refused, and says what would help."""
    hub.publish(NAME, save_sharded(tmp_path / "model"))
    limited = HubSettings(hub.url, settings.directory, MEGABYTE * 3 // 2, settings.retries)
    checkpoint = Checkpoint.open(NAME, hub=limited)
    checkpoint.load(["0"])

    with pytest.raises(DiskFullError, match="higher limit or fewer blocks"):
        checkpoint.load(["1"])
    assert torch.equal(checkpoint.load(["0"])["0"], tensor(0, 0))


OFFLINE = """
import sys
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import CheckpointError

checkpoint = Checkpoint.open("organization/model")
print(float(checkpoint.load(["0"])["0"][0]), checkpoint.read_json("generation_config.json"))
for attempt in (lambda: checkpoint.load(["1"]), lambda: Checkpoint.open("other/model")):
    try:
        attempt()
    except CheckpointError as error:
        print(error)
"""


def test_offline_mode_reads_what_is_stored_and_asks_nobody(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """HF_HUB_OFFLINE and HF_HUB_CACHE are read from the environment, as huggingface_hub does."""
    hub.publish(NAME, save_sharded(tmp_path / "model", seed=3))
    Checkpoint.open(NAME, hub=settings).load(["0"])
    hub.requests.clear()

    output = run_python(OFFLINE, hub, settings, HF_HUB_OFFLINE="1")

    assert output.splitlines() == [
        "30.0 None",
        "shard-1.safetensors of 'organization/model' is not stored on this machine, and "
        "HF_HUB_OFFLINE forbids to fetch it",
        "'other/model' is not stored on this machine, and HF_HUB_OFFLINE forbids to fetch it",
    ]
    assert hub.requests == []


def test_the_environment_says_where_the_hub_is_and_nothing_is_drawn_without_a_terminal(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """A progress bar in a log file is noise; stderr stays empty."""
    hub.publish(NAME, save_sharded(tmp_path / "model", seed=3))
    program = 'from swarm_protocol.checkpoint import Checkpoint as C\nC.open("organization/model")'

    assert run_python(program, hub, settings) == ""
    assert hub.sent_bytes["config.json"] > 0


def run_python(program: str, hub: HubServer, settings: HubSettings, **more: str) -> str:
    """Run a program in a fresh process; return what it prints, errors included."""
    environment = os.environ | more
    environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(settings.directory)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=15,
        check=True,
    )
    return done.stdout


def test_a_hub_that_is_gone_leaves_what_is_stored(
    hub: HubServer, settings: HubSettings, tmp_path: Path
) -> None:
    """A commit that is stored needs no hub; a branch falls back on what it was."""
    hub.publish(NAME, save_sharded(tmp_path / "model", seed=3))
    Checkpoint.open(NAME, hub=settings).load(["0"])
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "storage", moved, symlinks=True)
    gone = HubSettings("http://127.0.0.1:9", moved, retries=Retries(0.05, 0.01))

    assert torch.equal(Checkpoint.open(NAME, hub=gone).load(["0"])["0"], tensor(3, 0))
    with pytest.raises(CheckpointError, match="hub does not answer"):
        Checkpoint.open("other/model", hub=gone)
