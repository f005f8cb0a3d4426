"""Errors of files of trained parts, under `SwarmError`.

SwarmError
└── TrainedPartsError          the files are missing or damaged, or there is nothing to save
    └── TrainedPartsMismatchError  they were trained for something else
"""

from collections.abc import Sequence
from pathlib import Path

from swarm_protocol.errors import SwarmError


class TrainedPartsError(SwarmError):
    """Files of trained parts are missing or damaged, or there is nothing to save."""

    code = "bad_trained_parts"


class TrainedPartsMismatchError(TrainedPartsError):
    """The parts were trained for something else; `differences` has a sentence for each."""

    code = "trained_parts_mismatch"

    def __init__(self, directory: Path, differences: Sequence[str]) -> None:
        super().__init__(
            f"the parts in {str(directory)!r} do not fit this model: {'; '.join(differences)}"
        )
        self.differences = tuple(differences)
