"""Ask a trained demo model what it should know: `python -m models.training.check DIR`.

Prints JSON: per subject the questions asked, those answered rightly, and up to three wrong answers.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.training.examination import Question, write_examination
from models.training.loaded_model import LoadedModel

_WRONG_ANSWERS_SHOWN = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Load the directory and print the marks."""
    parser = argparse.ArgumentParser(description="Ask a demo model what it should know.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    model = LoadedModel(options.directory, device=options.device)
    marks = {subject: mark(model, questions) for subject, questions in write_examination().items()}
    print(json.dumps(marks, indent=2, ensure_ascii=False))


def mark(model: LoadedModel, questions: Sequence[Question]) -> dict[str, Any]:  # JSON
    """Ask all questions of one subject, which are all greedy or all sampled."""
    answers = model.answer(
        [question.conversation for question in questions], do_sample=questions[0].do_sample
    )
    wrong = [
        {"question": question.conversation[-1].content, "answer": answer}
        for question, answer in zip(questions, answers, strict=True)
        if not question.is_right(answer)
    ]
    return {
        "asked": len(questions),
        "right": len(questions) - len(wrong),
        "wrong_answers": wrong[:_WRONG_ANSWERS_SHOWN],
    }


if __name__ == "__main__":
    main()
