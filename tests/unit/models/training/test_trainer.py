"""When training ends, and what it does to the weights."""

import torch
from torch import Tensor

from models.training.model_directory import make_model
from models.training.presets import PRESETS
from models.training.trainer import Budget, Progress, Trainer

ROWS = torch.randint(1, 100, (6, 16), generator=torch.Generator().manual_seed(0)).int()


def make_trainer(rows: Tensor = ROWS, reports: list[Progress] | None = None) -> Trainer:
    torch.manual_seed(0)
    return Trainer(
        make_model(PRESETS["tiny"]),
        rows,
        rows,
        rows_per_step=4,
        learning_rate=1e-2,
        report_steps=2,
        report=(reports if reports is not None else []).append,
    )


def test_training_ends_after_the_allowed_steps() -> None:
    """Progress is reported on the way and at the end."""
    reports: list[Progress] = []

    last = make_trainer(reports=reports).run(Budget(seconds=600.0, max_steps=5))

    assert [report.num_steps for report in reports] == [2, 4, 5]
    assert last is reports[-1]


def test_training_ends_when_its_time_is_over() -> None:
    """The clock is read after each step; here one step takes a second."""
    ticks = iter(range(1000))

    progress = make_trainer().run(
        Budget(seconds=3.0, max_steps=100), clock=lambda: float(next(ticks))
    )

    assert progress.num_steps <= 3


def test_a_few_rows_are_learned_by_heart() -> None:
    """Both losses fall when the same rows come again and again."""
    reports: list[Progress] = []

    make_trainer(reports=reports).run(Budget(seconds=600.0, max_steps=20))

    assert reports[-1].validation_loss < reports[0].validation_loss
    assert reports[-1].training_loss < reports[0].training_loss


def test_padding_does_not_count_in_the_loss() -> None:
    """Rows with padding appended have the same mean loss per token."""
    padded = torch.cat([ROWS, torch.zeros(len(ROWS), 7, dtype=ROWS.dtype)], dim=1)

    expected = make_trainer().validation_loss()

    # float32 sums in another order
    assert abs(make_trainer(padded).validation_loss() - expected) < 1e-5
