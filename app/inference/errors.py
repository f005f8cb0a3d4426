"""Errors of the engine, under `SwarmError`.

SwarmError
├── UnknownModelError       the gateway does not offer the model
├── PromptTooLongError      more tokens than the model can hold
├── EmptyPromptError        nothing to continue
├── TemplateError           the messages cannot be made into a prompt
├── OverloadedError         too many rows wait for a replica
├── BadHiddenStatesError    the blocks' output yields no probabilities
├── NoTokenAllowedError     the constraint allows no token
├── HeadFailedError         a fault of our own in the LM head or the sampler
├── ModelExistsError        the gateway offers a model of this name already
├── ModelsFixedError        this gateway's models cannot be changed while it runs
├── MemoryBudgetError       the model does not fit beside the others
├── NoDeviceError           this machine has no such torch device
└── EngineStoppedError      the engine was closed
"""

from collections.abc import Iterable

from swarm_protocol.errors import SwarmError


class UnknownModelError(SwarmError):
    """The gateway does not offer the model."""

    code = "unknown_model"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown model {name!r:.100}; known models: {', '.join(sorted(known))}")
        self.name = name


class PromptTooLongError(SwarmError):
    """More tokens than the model can hold."""

    code = "prompt_too_long"

    def __init__(self, num_tokens: int, max_positions: int) -> None:
        super().__init__(
            f"{num_tokens} tokens are more than the {max_positions} this model can hold,"
            " prompt and output together"
        )
        self.num_tokens = num_tokens
        self.max_positions = max_positions


class EmptyPromptError(SwarmError):
    """There is no prompt, no context, and the model has no token that starts a text."""

    code = "empty_prompt"

    def __init__(self) -> None:
        super().__init__("the prompt is empty, and this model cannot start a text from nothing")


class TemplateError(SwarmError):
    """The messages cannot be made into a prompt; the text says why, in one sentence."""

    code = "bad_messages"


class OverloadedError(SwarmError):
    """Too many rows wait for a replica."""

    code = "overloaded"
    retryable = True

    def __init__(self, max_waiting: int) -> None:
        super().__init__(f"more than {max_waiting} tokens are waiting to be made")


class BadHiddenStatesError(SwarmError):
    """The blocks' output yields logits that are not finite, so no token can be chosen."""

    code = "bad_hidden_states"
    retryable = True

    def __init__(self) -> None:
        super().__init__("the servers' output yields no probabilities: it is not finite")


class NoTokenAllowedError(SwarmError):
    """The output so far cannot be continued such that it matches the request's constraint."""

    code = "no_token_allowed"

    def __init__(self) -> None:
        super().__init__("no token of this model can continue what the constraint allows")


class HeadFailedError(SwarmError):
    """A fault of our own in embedding, LM head or sampler; the log and the cause say more."""

    code = "head_failed"

    def __init__(self) -> None:
        super().__init__("the local part of the model failed")


class NoDeviceError(SwarmError):
    """This machine has no such torch device; found at the start."""

    code = "no_device"

    def __init__(self, device: str) -> None:
        super().__init__(
            f"this machine has no device {device!r:.60} for embeddings and LM heads; "
            "SWARMGATE_DEVICE (--device) is cpu, or e.g. cuda:0"
        )
        self.device = device


class EngineStoppedError(SwarmError):
    """The engine was closed."""

    code = "engine_stopped"
    retryable = True

    def __init__(self) -> None:
        super().__init__("the engine has stopped")


class ModelExistsError(SwarmError):
    """The gateway offers a model of this name already, or is about to."""

    code = "model_exists"

    def __init__(self, model_id: str) -> None:
        super().__init__(f"the gateway offers a model named {model_id!r:.100} already")
        self.model_id = model_id


class ModelsFixedError(SwarmError):
    """The models of this gateway cannot be changed while it runs."""

    code = "models_fixed"

    def __init__(self) -> None:
        super().__init__("the models of this gateway cannot be changed while it runs")


class MemoryBudgetError(SwarmError):
    """The local parts of a model do not fit beside those of the others; nothing was loaded."""

    code = "memory_budget"

    def __init__(self, model_id: str, needed_bytes: int, taken_bytes: int, max_bytes: int) -> None:
        super().__init__(
            f"model {model_id!r:.100} needs {needed_bytes / 1e9:.2f} GB for its embeddings and "
            f"LM head, but other models take {taken_bytes / 1e9:.2f} of the "
            f"{max_bytes / 1e9:.2f} GB that a worker may use (SWARMGATE_MEMORY_BUDGET_GB)"
        )
        self.needed_bytes = needed_bytes
        self.taken_bytes = taken_bytes
        self.max_bytes = max_bytes
