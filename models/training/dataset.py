"""From a seed to training rows: corpus, tokenizer, packing."""

from dataclasses import dataclass

from tokenizers import Tokenizer

from models.training.corpus import write_corpus
from models.training.packing import PackedRows, pack_rows
from models.training.presets import Preset
from models.training.tokenizer import encode_documents, train_tokenizer

_TOKENIZER_DOCUMENTS = 30_000  # more would hardly change the pieces
_VALIDATION_SEED = 987_654_321
_VALIDATION_DOCUMENTS = 2000


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a trainer needs; the validation rows come from a seed of their own."""

    tokenizer: Tokenizer
    training: PackedRows
    validation: PackedRows


def make_dataset(preset: Preset, *, seed: int, num_documents: int) -> Dataset:
    """Write the corpus, learn the tokenizer from its beginning, and pack both into rows."""
    documents = write_corpus(seed=seed, num_documents=num_documents)
    tokenizer = train_tokenizer(documents[:_TOKENIZER_DOCUMENTS], vocab_size=preset.vocab_size)
    unseen = write_corpus(seed=_VALIDATION_SEED, num_documents=_VALIDATION_DOCUMENTS)

    def pack(texts: list[str]) -> PackedRows:
        return pack_rows(encode_documents(tokenizer, texts), row_length=preset.row_length)

    return Dataset(tokenizer, pack(documents), pack(unseen))
