"""Text to token ids and back, for one model. Calls block; long texts belong into a thread."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from app.inference.chat_templates import ChatTemplate, style_of
from app.inference.requests import NO_WISHES, ChatMessage, ChatTool, PromptWishes
from app.inference.token_bytes import byte_reader
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import CheckpointError

_MAX_CONTEXT: Final = 16
_GENERIC_CLASSES: Final = ("PreTrainedTokenizerFast", "TokenizersBackend")


class ModelTokenizer:
    """A model's tokenizer and chat template. Threads may share it: nothing of it changes.

    Attributes:
        chat_style: how the model writes what is not plain text.

    Args:
        tokenizer: of transformers, which has no types; must have a fast backend.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Used directly: the wrapper sets truncation and padding at each call, which fails while
        # another thread is encoding, and it costs more than the work.
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        added = self._backend.get_added_tokens_decoder()
        self._special_ids = frozenset(id_ for id_, token in added.items() if token.special)
        self._template = ChatTemplate(_templates(tokenizer), tokenizer.special_tokens_map)
        self.chat_style = style_of(self._template, added)
        self._read_bytes = byte_reader(
            str(self._backend.decoder.__getstate__()) if self._backend.decoder else "",
            frozenset(self._added_pieces()),
        )

    def __len__(self) -> int:
        """Return the number of tokens, added ones included."""
        size: int = self._backend.get_vocab_size(with_added_tokens=True)
        return size

    @classmethod
    def load(cls, checkpoint: Checkpoint) -> "ModelTokenizer":
        """Load it from the model's files; takes seconds when it is the first.

        Raises:
            CheckpointError: the files are missing or damaged.
        """
        directory = checkpoint.tokenizer_directory()
        try:
            tokenizer = _tokenizer_class(checkpoint).from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # whatever foreign code makes of damaged files
            raise CheckpointError(
                f"the tokenizer of {checkpoint.source!r} cannot be loaded"
            ) from error
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise CheckpointError(f"the tokenizer of {checkpoint.source!r} has no tokenizer.json")
        return cls(tokenizer)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Return the token ids of a text; special tokens written in it are recognised."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def render_chat(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ChatTool] = (),
        wishes: PromptWishes = NO_WISHES,
    ) -> str:
        """Return the text of the prompt for the next answer. Raises TemplateError."""
        return self._template.render(messages, tools, wishes)

    def encode_behind(self, context_ids: Sequence[int], text: str) -> list[int]:
        """Return token ids that read as `text` when they stand behind `context_ids`.

        Some tokenizers put a space in front of what they encode; behind an anchor they cannot.
        """
        decode = self.decoder(keeps_special_tokens=True)
        context, plain = context_ids[-_MAX_CONTEXT:], self.encode(text)
        if decode([*context, *plain]) == decode(context) + text:
            return plain
        anchor = self.encode("^")
        anchored = self.encode("^" + text)
        return anchored[len(anchor) :] if anchored[: len(anchor)] == anchor else plain

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes a token stands for; none for an id that the vocabulary does not have."""
        piece = self._backend.id_to_token(token_id)
        return b"" if piece is None else self._read_bytes(piece)

    def definition(self) -> str:
        """Return its tokenizer.json; megabytes for a large vocabulary."""
        text: str = self._backend.to_str()
        return text

    def decoder(
        self, *, keeps_special_tokens: bool, shown_ids: Sequence[int] = ()
    ) -> Callable[[Sequence[int]], str]:
        """Return ids to text, without the clean-up of spaces that would make it lossy.

        A dozen ids take about a microsecond, so this may run in the event loop.

        Args:
            shown_ids: special tokens that are kept whatever becomes of the others.
        """
        decode: Callable[[Sequence[int]], str] = partial(
            self._backend.decode, skip_special_tokens=not (keeps_special_tokens or shown_ids)
        )
        if keeps_special_tokens or not shown_ids:
            return decode
        hidden = self._special_ids.difference(shown_ids)
        return lambda ids: decode([id_ for id_ in ids if id_ not in hidden])

    def _added_pieces(self) -> list[str]:
        return [str(token) for token in self._tokenizer.get_added_vocab()]


def _templates(tokenizer: Any) -> dict[str, str]:
    """Return the sources of its chat templates by name."""
    template = tokenizer.chat_template
    return {"default": template} if isinstance(template, str) else dict(template or {})


def _tokenizer_class(checkpoint: Checkpoint) -> Any:
    """Return the class to load with: the generic one at once where the files ask for it.

    The automatic one reads the model's whole architecture first, 1.4 s of processor time.
    """
    # Imported here, in a thread of the loader: it takes seconds.
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    config = checkpoint.read_json("tokenizer_config.json") or {}
    is_generic = config.get("tokenizer_class") in _GENERIC_CLASSES
    return PreTrainedTokenizerFast if is_generic else AutoTokenizer
