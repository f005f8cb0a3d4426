"""What can go wrong at a hub, told apart: what may pass, and a sentence for each that does not."""

from typing import Final

from swarm_protocol.errors import SwarmError

_RETRYABLE_STATUSES: Final = (408, 429, 500, 502, 503, 504)


def may_pass(error: Exception) -> bool:
    """Tell whether trying again may help."""
    from huggingface_hub import errors, is_offline_mode

    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code in _RETRYABLE_STATUSES
    final = (SwarmError, ValueError, errors.LocalEntryNotFoundError)
    return not isinstance(error, final) and not is_offline_mode()


def describe(repository: str, revision: str | None, name: str | None, error: Exception) -> str:
    """Return what is wrong with a repository or a file of it, for whoever asked for it."""
    from huggingface_hub import errors, is_offline_mode

    what = f"{name} of {repository!r}" if name else repr(repository)
    match error:
        case errors.GatedRepoError():
            return f"the hub gives {repository!r} only to accounts that its owners have admitted"
        case errors.RepositoryNotFoundError() | errors.HFValidationError():
            return f"{repository!r} is neither a directory here nor a repository of the hub"
        case errors.RevisionNotFoundError():
            return f"{repository!r} has no revision {revision or 'main'!r}"
        case errors.HfHubHTTPError():
            return f"{what} cannot be fetched: the hub answered {error.response.status_code}"
        case _ if is_offline_mode():
            return describe_offline(what)
        case errors.RevisionResolutionError() | errors.LocalEntryNotFoundError():
            return f"{what} is not stored on this machine, and the hub does not answer"
        case _:
            return f"{what} cannot be fetched: {type(error).__name__}"


def describe_offline(what: str) -> str:
    """Return why something that is not stored is not fetched."""
    return f"{what} is not stored on this machine, and HF_HUB_OFFLINE forbids to fetch it"
