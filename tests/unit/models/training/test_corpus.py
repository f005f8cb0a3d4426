"""What may stand in the corpus: made-up text, well-formed conversations, true answers."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import Tokenizer

import models
from models.training import phrase_book
from models.training.corpus import write_corpus, write_document
from models.training.documents import Conversation
from models.training.model_directory import MAX_POSITIONS, make_model
from models.training.presets import PRESETS
from models.training.themes.people import is_held_out
from models.training.themes.stories import write_story

MODELS = Path(models.__file__).parent
DIGEST_OF_A_CORPUS = """
import hashlib
from models.training.corpus import write_corpus
text = "".join(write_corpus(seed=3, num_documents=200))
print(hashlib.sha256(text.encode()).hexdigest())
"""


def conversations() -> Iterator[Conversation]:
    random = Random(11)
    for _ in range(3000):
        document = write_document(random)
        if not isinstance(document, str):
            yield document


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def digest_in_a_new_process(hash_seed: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", DIGEST_OF_A_CORPUS],
        cwd=MODELS.parent,
        env={"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
        text=True,
    )
    return finished.stdout


def test_the_same_seed_writes_the_same_corpus_in_every_process() -> None:
    """Neither the hash seed nor anything else of the process changes a letter."""
    assert digest_in_a_new_process("1") == digest_in_a_new_process("2")


def test_another_seed_writes_another_corpus() -> None:
    """Validation documents come from a seed of their own."""
    assert write_corpus(seed=1, num_documents=20) != write_corpus(seed=2, num_documents=20)


def test_roles_alternate_and_the_model_has_the_last_word() -> None:
    """A system message comes first or not at all; then caller and model take turns."""
    for conversation in conversations():
        roles = [message.role for message in conversation if message.role != "system"]

        assert [m.role for m in conversation[1:]].count("system") == 0
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert roles


def test_no_message_is_empty_and_no_pattern_is_left_unfilled() -> None:
    """Every message has text, and the model's own hold no braces."""
    for conversation in conversations():
        for message in conversation:
            assert message.content.strip()
            assert message.role != "assistant" or not set("{}<|>") & set(message.content)


def test_every_document_fits_one_row() -> None:
    """With the shipped tokenizer no document is longer than the model's context."""
    tokenizer = Tokenizer.from_file(str(MODELS / "demo" / "tokenizer.json"))
    documents = write_corpus(seed=5, num_documents=1500)

    encodings = tokenizer.encode_batch(documents, add_special_tokens=False)

    assert max(len(encoding.ids) for encoding in encodings) <= PRESETS["base"].row_length


def test_stories_use_only_words_of_the_phrase_books() -> None:
    """No outside text: all words stand in the lists and patterns that ship beside the themes."""
    books = [book.read_text(encoding="utf-8") for book in phrase_book.FOLDER.glob("*.json")]
    known = words_of(json.dumps([json.loads(book) for book in books]).replace("\\n", " "))
    random = Random(7)

    used = words_of(" ".join(write_story(random) for _ in range(300)))

    assert used <= known


def test_held_out_pairs_are_never_told_about() -> None:
    """Neither hero nor friend joins a kind and a name that the check asks for."""
    text = "\n".join(write_corpus(seed=6, num_documents=3000))
    named = re.findall(r"(\w+) (?:named|called) ([A-Z]\w+)", text)
    titled = re.findall(r"(?:friend|birthday of) (\w+) the (\w+)", text)

    assert len(named) > 1000
    assert len(titled) > 100
    assert not [pair for pair in named if is_held_out(*pair)]
    assert not [(name, kind) for name, kind in titled if is_held_out(kind, name)]


def test_a_name_that_was_told_is_the_one_remembered() -> None:
    """Where the model answers with a name, the caller has said it before in this conversation."""
    for conversation in conversations():
        said = " ".join(m.content for m in conversation if m.role == "user").lower()
        remembered = re.fullmatch(r"Your name is (\w+)\.", conversation[-1].content)

        assert remembered is None or remembered[1].lower() in said


def test_results_are_right() -> None:
    """Every sum, difference and product that the model states is true."""
    operations = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
    answers = "\n".join(m.content for c in conversations() for m in c if m.role == "assistant")
    stated = re.findall(r"(\d+) ([-+*]) (\d+) = (\d+)\.", answers)

    assert len(stated) > 100
    assert all(operations[o](int(a), int(b)) == int(c) for a, o, b, c in stated)


def test_the_model_never_calls_itself_an_assistant() -> None:
    """It is a demo model, and says so."""
    answers = [m.content for c in conversations() for m in c if m.role == "assistant"]

    assert not [answer for answer in answers if "assistant" in answer.lower()]
    assert any("swarmgate demo model" in answer for answer in answers)


def test_what_the_model_says_about_its_size_is_true() -> None:
    """About 7 million parameters, 8 blocks, 2048 tokens: as the preset that ships."""
    model = make_model(PRESETS["base"])
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    said = " ".join(book.read_text(encoding="utf-8") for book in phrase_book.FOLDER.glob("*.json"))

    assert set(re.findall(r"(\d+) million parameters", said)) == {str(round(num_parameters / 1e6))}
    assert set(re.findall(r"(\d+) blocks", said)) == {str(PRESETS["base"].num_blocks)}
    assert set(re.findall(r"holds (\d+) tokens", said)) == {str(MAX_POSITIONS)}
