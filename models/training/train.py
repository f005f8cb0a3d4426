"""Train a demo model from nothing: `python -m models.training.train --out DIR --preset base`.

Prints one JSON object per line: the dataset, progress, and the files of the finished directory.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from models.training.dataset import make_dataset
from models.training.model_directory import make_model, save_model_directory
from models.training.presets import PRESETS
from models.training.trainer import Budget, Trainer


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the dataset, train tokenizer and model, write the directory."""
    options = _parser().parse_args(arguments)
    preset = PRESETS[options.preset]
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    started = time.monotonic()
    dataset = make_dataset(preset, seed=options.seed, num_documents=options.docs)
    _print_facts(
        rows=len(dataset.training.token_ids),
        tokens=dataset.training.num_tokens,
        documents_left_out=dataset.training.num_left_out,
        took_s=time.monotonic() - started,
    )
    model = make_model(preset).to(options.device)
    trainer = Trainer(
        model,
        dataset.training.token_ids,
        dataset.validation.token_ids,
        rows_per_step=preset.rows_per_step,
        learning_rate=preset.learning_rate,
        report_steps=options.report_steps,
        report=lambda progress: _print_facts(**asdict(progress)),
    )
    trainer.run(Budget(options.minutes * 60, options.max_steps))
    save_model_directory(model, dataset.tokenizer, options.out)
    _print_facts(**{file.name: file.stat().st_size for file in sorted(options.out.iterdir())})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train a demo model from made-up text.")
    add = parser.add_argument
    add("--out", type=Path, required=True, help="directory to write")
    add("--preset", choices=PRESETS, default="base", help="size of the model")
    add("--minutes", type=float, default=2.6, help="time of the training itself")
    add("--max-steps", type=int, default=sys.maxsize, help="end earlier, after so many steps")
    add("--docs", type=int, default=400_000, help="documents of the corpus")
    add("--seed", type=int, default=0, help="of corpus, weights and order")
    add("--report-steps", type=int, default=200, help="steps between two reports")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def _print_facts(**facts: float) -> None:
    rounded = {name: round(f, 4) if isinstance(f, float) else f for name, f in facts.items()}
    print(json.dumps(rounded), flush=True)


if __name__ == "__main__":
    main()
