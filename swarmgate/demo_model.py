"""Where the demo model is: it came with the project, and is found from every directory."""

from pathlib import Path
from typing import Final

from swarmgate.errors import OptionError

_DEMO: Final = "models/demo"
_PROJECT: Final = Path(__file__).parents[1]


def find_model(model: str, *, project: Path = _PROJECT) -> str:
    """Return where a model is; only the demo model may be elsewhere than its name says.

    Raises:
        OptionError: this installation came without the demo model. The hub is not asked: whoever
            took that name there would be served.
    """
    if model != _DEMO or Path(model).is_dir():
        return model
    ours = project / model
    if not ours.is_dir():
        raise OptionError(
            f"{model}, the demo model, is neither here nor part of this installation; "
            "give the directory of a model, or a hub repository (to a gateway: with --models)"
        )
    return str(ours)
