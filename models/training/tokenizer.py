"""The tokenizer: byte-level pieces learned from the corpus, every digit by itself."""

from collections.abc import Iterable, Iterator, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from models.training.documents import (
    BEGIN,
    BEGIN_ID,
    CHAT_TEMPLATE,
    END,
    PADDING,
    SPECIAL_TOKENS,
)

_DOCUMENTS_AT_ONCE = 10_000  # bounds the memory of the encodings


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """A tokenizer of `vocab_size` pieces at most; the special tokens have the first ids.

    Any bytes can be encoded. Plain text gets a begin marker; the chat template brings its own.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, BEGIN_ID)]
    )
    return tokenizer


def encode_documents(tokenizer: Tokenizer, documents: Sequence[str]) -> Iterator[list[int]]:
    """Token ids of rendered documents, which carry their markers already."""
    for start in range(0, len(documents), _DOCUMENTS_AT_ONCE):
        batch = documents[start : start + _DOCUMENTS_AT_ONCE]
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            yield encoding.ids


def as_chat_tokenizer(tokenizer: Tokenizer, *, max_length: int) -> PreTrainedTokenizerFast:
    """The same tokenizer as transformers saves and loads it, with the chat template."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PADDING,
        chat_template=CHAT_TEMPLATE,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
