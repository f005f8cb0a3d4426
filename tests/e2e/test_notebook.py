"""The steps of Petals' "Getting started" notebook, in order, on two running swarms.

The calls are the notebook's, but for the import and `initial_peers`. The demo model and a BLOOM
each have servers and a gateway in processes of their own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessorList, PreTrainedModel
from transformers.generation import NoBadWordsLogitsProcessor

from swarm_client import AutoDistributedModelForCausalLM  # the notebook: from petals import …
from tests.harness.programs import DEMO_MODEL, get_json, running_swarm
from tests.harness.tiny_families import save_tiny_family

pytestmark = pytest.mark.timeout(90)

TEXT: Final = "What is a good chatbot? Answer:"
NUM_TOKENS: Final = 12


@dataclass(frozen=True, slots=True)
class Notebook:
    """What the first cells make. `whole` is the same model in one process, of transformers."""

    model: Any  # as in a notebook: nothing has types there
    tokenizer: Any
    whole: PreTrainedModel

    def ids_of(self, text: str) -> Tensor:
        """Return token ids `[1, num_tokens]`."""
        token_ids: Tensor = self.tokenizer(text, return_tensors="pt")["input_ids"]
        return token_ids

    def expected(self, inputs: Tensor, **options: Any) -> list[int]:
        """Return the tokens that transformers' model writes after these."""
        outputs = self.whole.generate(inputs, do_sample=False, max_new_tokens=NUM_TOKENS, **options)
        tokens: list[int] = outputs[0, inputs.shape[1] :].tolist()
        return tokens


def save_demo(directory: Path) -> Path:
    """Save the demo model in float32: in bfloat16, tokens may differ from transformers'."""
    AutoModelForCausalLM.from_pretrained(DEMO_MODEL, dtype=torch.float32).save_pretrained(directory)
    AutoTokenizer.from_pretrained(DEMO_MODEL).save_pretrained(directory)
    return directory


def save_bloom(directory: Path) -> Path:
    """Save a random BLOOM of six blocks."""
    return save_tiny_family("bloom", directory, num_hidden_layers=6)


@pytest.fixture(scope="module", params=[save_demo, save_bloom], ids=["demo", "bloom"])
def notebook(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Notebook]:
    """The notebook after its first cells: tokenizer and model."""
    model_name = str(request.param(tmp_path_factory.mktemp("models") / "notebook"))
    with running_swarm("--model", model_name) as (_, url):
        tokenizer = AutoTokenizer.from_pretrained(model_name, use_fast=False, add_bos_token=False)
        model = AutoDistributedModelForCausalLM.from_pretrained(
            model_name,
            initial_peers=get_json(f"{url}/api/v1/swarm")["maddrs"],
            torch_dtype=torch.float32,
        )
        whole = AutoModelForCausalLM.from_pretrained(model_name, dtype=torch.float32)
        yield Notebook(model, tokenizer, whole)
        model.close()


def test_a_text_is_generated(notebook: Notebook) -> None:
    """Greedily, as transformers generates it."""
    inputs = notebook.ids_of(TEXT)

    outputs = notebook.model.generate(inputs, max_new_tokens=NUM_TOKENS, do_sample=False)

    assert outputs[0, inputs.shape[1] :].tolist() == notebook.expected(inputs)


def test_a_text_is_sampled(notebook: Notebook) -> None:
    """With temperature and top-p; the same seed gives transformers' tokens."""
    inputs = notebook.ids_of(TEXT)
    options = {"do_sample": True, "temperature": 0.9, "top_p": 0.6, "max_new_tokens": NUM_TOKENS}

    torch.manual_seed(0)
    outputs = notebook.model.generate(inputs, **options)

    torch.manual_seed(0)
    assert outputs.tolist() == notebook.whole.generate(inputs, **options).tolist()


def test_a_session_gives_one_token_at_a_time(notebook: Notebook) -> None:
    """The prefix goes with the first call only; all calls together are one generation."""
    prefix: Tensor | None = notebook.ids_of(TEXT)
    tokens = []

    with notebook.model.inference_session(max_length=64) as sess:
        for _ in range(NUM_TOKENS):
            outputs = notebook.model.generate(
                prefix, max_new_tokens=1, do_sample=False, session=sess
            )
            tokens.append(outputs[0, -1].item())
            prefix = None

    assert tokens == notebook.expected(notebook.ids_of(TEXT))


def test_a_chat_goes_on_in_its_session(notebook: Notebook) -> None:
    """The second question is answered with the first one in mind."""
    told = torch.empty(1, 0, dtype=torch.int64)

    with notebook.model.inference_session(max_length=256) as sess:
        for question in ("Hi! My name is Maria.", "What is my name?"):
            prefix = notebook.ids_of(f"Human: {question}\nFriendly AI:")
            outputs = notebook.model.generate(
                prefix, max_new_tokens=NUM_TOKENS, do_sample=False, session=sess
            )
            answered = outputs[0, prefix.shape[1] :].tolist()
            assert answered == notebook.expected(torch.cat([told, prefix], dim=1))
            told = torch.cat([told, outputs], dim=1)


def test_five_layers_have_gradients(notebook: Notebook) -> None:
    """A slice prints its blocks, and gradients in bfloat16 pass through it."""
    first_five_layers = notebook.model.transformer.h[0:5]
    dummy_inputs = torch.randn(
        1, 3, notebook.model.config.hidden_size, dtype=torch.bfloat16, requires_grad=True
    )

    outputs = first_five_layers(dummy_inputs)
    loss = torch.mean((outputs - torch.ones_like(outputs)) ** 2)
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no type here

    assert ".0.." in repr(first_five_layers)
    assert ".4)" in repr(first_five_layers)
    assert outputs.dtype == torch.bfloat16
    assert dummy_inputs.grad is not None
    assert dummy_inputs.grad.norm() > 0


class Classifier(nn.Module):
    """The notebook's: half of the blocks, an adapter, the other half, a head."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        hidden_size = model.config.hidden_size
        self.distributed_layers = model.transformer.h
        self.adapter = nn.Sequential(nn.Linear(hidden_size, 32), nn.Linear(32, hidden_size))
        self.head = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, 2))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return scores `[batch, 2]`."""
        middle = len(self.distributed_layers) // 2
        hidden = self.distributed_layers[:middle](embeddings)
        hidden = self.adapter(hidden)
        hidden = self.distributed_layers[middle:](hidden)
        scores: Tensor = self.head(hidden.mean(dim=1))
        return scores


def test_an_adapter_between_blocks_is_trained(notebook: Notebook) -> None:
    """The loss falls until all labels are right."""
    torch.manual_seed(0)
    classifier = Classifier(notebook.model)
    optimizer = torch.optim.Adam(classifier.parameters(), 3e-3)
    inputs = torch.randn(3, 2, notebook.model.config.hidden_size)
    labels = torch.tensor([1, 0, 1])

    losses = []
    for _ in range(8):
        loss = functional.cross_entropy(classifier(inputs), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type here
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < losses[0] / 2
    assert classifier(inputs).argmax(-1).equal(labels)


def test_own_sampling_writes_what_generate_writes(notebook: Notebook) -> None:
    """From token ids to token ids by hand, with every local part by its name."""
    model = notebook.model
    tokens = notebook.ids_of(TEXT)
    decoded: list[int] = []

    with torch.inference_mode(), model.inference_session(max_length=64) as sess:
        while len(decoded) < NUM_TOKENS:
            embs = model.transformer.word_embeddings(tokens)
            embs = model.transformer.word_embeddings_layernorm(embs)
            h = sess.step(embs)
            h_last = model.transformer.ln_f(h[:, -1])
            logits = model.lm_head(h_last)
            tokens = logits.argmax(dim=-1).reshape(1, 1)
            decoded.append(int(tokens.item()))

    assert decoded == notebook.expected(notebook.ids_of(TEXT))


def test_beams_avoid_the_banned_words(notebook: Notebook) -> None:
    """The words that would have been said; beams reorder the servers' KV caches."""
    inputs = notebook.ids_of(TEXT)
    banned = [[token] for token in sorted({*notebook.expected(inputs, num_beams=3)})[:3]]
    processors = LogitsProcessorList(
        [NoBadWordsLogitsProcessor(banned, notebook.tokenizer.eos_token_id)]
    )

    outputs = notebook.model.generate(
        inputs,
        max_new_tokens=NUM_TOKENS,
        do_sample=False,
        num_beams=3,
        logits_processor=processors,
    )

    tokens = outputs[0, inputs.shape[1] :].tolist()
    assert tokens == notebook.expected(inputs, num_beams=3, logits_processor=processors)
    assert not {token for [token] in banned} & {*tokens}
