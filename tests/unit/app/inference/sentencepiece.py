"""A tokenizer that treats spaces as Llama 2's does."""

from tokenizers import Tokenizer, decoders, models, normalizers

SPACE = "\u2581"
WORDS = ("<s>", SPACE, f"{SPACE}a", f"{SPACE}bc", "a", "d", "^")


def sentencepiece_tokenizer() -> Tokenizer:
    """Words carry their space in front; the first space of a text is stripped when decoding.

    Encoding puts a space in front of the text. Ids behind `WORDS` are bytes.
    """
    words = [*WORDS, *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {word: index for index, word in enumerate(words)}
    merges = [(SPACE, "a")]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


def ids_of_bytes(text: str) -> list[int]:
    """Return the bytes of a text as ids."""
    return [byte + len(WORDS) for byte in text.encode()]
