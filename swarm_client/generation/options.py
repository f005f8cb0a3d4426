"""Which of transformers' options of `generate` remote blocks can honour. Pure."""

from collections.abc import Mapping
from typing import Final

from swarm_client.errors import InvalidParametersError

_REFUSED: Final[Mapping[str, tuple[tuple[object, ...], str]]] = {
    "output_attentions": ((None, False), "off: attention is computed on servers"),
    "output_hidden_states": ((None, False), "off: they stay on servers; run slices of the blocks"),
    "guidance_scale": ((None, 1, 1.0), "1: it would run the model on other text in between"),
    "position_ids": ((None,), "None: servers count positions by themselves"),
    "past_key_values": ((None,), "None: sessions take its place"),
    "token_healing": ((None, False), "off: it takes tokens of the prompt back"),
}


def check_options(options: Mapping[str, object], defaults: object) -> None:
    """Refuse what would be ignored, or give other tokens than transformers gives.

    Args:
        options: those given to `generate`.
        defaults: the model's generation config, for what they do not say.

    Raises:
        InvalidParametersError: says what is possible.
    """
    for name, (accepted, expected) in _REFUSED.items():
        value = read_option(name, options, defaults)
        if value not in accepted:
            raise InvalidParametersError(name, expected, value)


def read_option(name: str, options: Mapping[str, object], defaults: object) -> object:
    """Return an option: the one given, else the given config's, else the default one's."""
    for value in (
        options.get(name),
        getattr(options.get("generation_config"), name, None),
        getattr(defaults, name, None),
    ):
        if value is not None:
            return value
    return None
