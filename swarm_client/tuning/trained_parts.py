"""Files of what was trained: tensors as safetensors, and JSON that says what they are for.

A directory holds `trained.safetensors` and `trained.json`. Nothing of the model itself is in
them, so they are small; and useless with another model, so loading checks that first. Only
parameters are kept: buffers, such as the averages of a batch norm, are not.
"""

from pathlib import Path
from typing import Final, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from swarm_client.models.facts import ModelFacts
from swarm_client.tuning.errors import TrainedPartsError, TrainedPartsMismatchError
from swarm_client.tuning.prompt_tuning import PromptTuning

TENSORS_FILE: Final = "trained.safetensors"
PURPOSE_FILE: Final = "trained.json"


class TrainedFor(BaseModel):
    """What parts were trained for. Files come from outside, hence the checks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    model: str = Field(description="Name of the model, as its servers derive it.")
    model_type: str = Field(description="The architecture's name.")
    num_blocks: int = Field(ge=1, description="Blocks of the model.")
    hidden_size: int = Field(ge=1, description="Width of its hidden states.")
    tuning_mode: str | None = Field(description="Which prompts were trained, if any.")
    pre_seq_len: int = Field(ge=0, description="Tokens of these prompts.")

    @classmethod
    def of(cls, facts: ModelFacts, prompts: PromptTuning | None = None) -> Self:
        """Describe parts that are trained on this model, maybe with prompts."""
        return cls(
            model=facts.dht_prefix,
            model_type=facts.model_type,
            num_blocks=facts.num_blocks,
            hidden_size=facts.hidden_size,
            tuning_mode=None if prompts is None else prompts.mode.value,
            pre_seq_len=0 if prompts is None else prompts.pre_seq_len,
        )


def save_trained(module: nn.Module, purpose: TrainedFor, directory: str | Path) -> None:
    """Write the parameters of a module that want gradients; files of earlier saves are replaced.

    Each file is replaced in one go, so an interrupted save leaves no half of one.

    Raises:
        TrainedPartsError: no parameter wants gradients.
        OSError: the files cannot be written.
    """
    trained = {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }
    if not trained:
        raise TrainedPartsError("nothing to save: no parameter of the module wants gradients")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    new_tensors, new_purpose = directory / f"{TENSORS_FILE}.new", directory / f"{PURPOSE_FILE}.new"
    save_file(trained, new_tensors)
    new_purpose.write_text(purpose.model_dump_json(indent=2) + "\n", encoding="utf-8")
    new_tensors.replace(directory / TENSORS_FILE)
    new_purpose.replace(directory / PURPOSE_FILE)


def load_trained(module: nn.Module, purpose: TrainedFor, directory: str | Path) -> None:
    """Read saved parameters into a module, in the dtype and on the device of its own.

    All or nothing: after an error, the module is as before.

    Args:
        module: laid out as the saved one.
        purpose: what the module is for.
        directory: where `save_trained` wrote.

    Raises:
        TrainedPartsMismatchError: they were trained for another purpose, or names or shapes of
            parameters differ.
        TrainedPartsError: a file is missing or damaged.
    """
    directory = Path(directory)
    differences = _differences(_read_purpose(directory), purpose)
    if differences:
        raise TrainedPartsMismatchError(directory, differences)
    parameters = dict(module.named_parameters())
    tensors = _read_tensors(directory, parameters)
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)


def _read_purpose(directory: Path) -> TrainedFor:
    path = directory / PURPOSE_FILE
    try:
        return TrainedFor.model_validate_json(path.read_bytes())
    except OSError as error:
        raise TrainedPartsError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "the file"
        raise TrainedPartsError(f"{str(path)!r}: {place}: {fault['msg']}") from error


def _differences(saved: TrainedFor, wanted: TrainedFor) -> list[str]:
    wanted_fields = wanted.model_dump()
    return [
        f"{field} is {value!r} there and {wanted_fields[field]!r} here"
        for field, value in saved.model_dump().items()
        if value != wanted_fields[field]
    ]


def _read_tensors(directory: Path, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the saved tensors, once names and shapes have been found to fit."""
    path = directory / TENSORS_FILE
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            differences = _shape_differences(shapes, parameters)
            if differences:
                raise TrainedPartsMismatchError(directory, differences)
            return {name: file.get_tensor(name) for name in shapes}
    except (OSError, SafetensorError) as error:
        raise TrainedPartsError(f"cannot read {str(path)!r}: {error}") from error


def _shape_differences(
    shapes: dict[str, tuple[int, ...]], parameters: dict[str, nn.Parameter]
) -> list[str]:
    """Saved parameters must be here, and those trained here must have been saved."""
    trained = {name for name, parameter in parameters.items() if parameter.requires_grad}
    differences = [f"{name} was not saved" for name in sorted(trained - shapes.keys())]
    for name, shape in sorted(shapes.items()):
        if name not in parameters:
            differences.append(f"there is no parameter {name} here")
        elif shape != tuple(parameters[name].shape):
            here = list(parameters[name].shape)
            differences.append(f"{name} is {list(shape)} there and {here} here")
    return differences
