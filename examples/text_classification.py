"""Fine-tuning: sort what people ask for with deep prompts and a head of our own.

The model's weights stay on the servers, frozen. What is trained is here: eight vectors before
every block, and a linear layer after the last one. Both are saved, and read again into a fresh
model.
"""

import random
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from rich.progress import track
from transformers import AutoTokenizer

from examples.arguments import Arguments, read_arguments
from swarm_client import AutoDistributedModelForSequenceClassification

LEARNING_RATE = 0.01
# What people ask for, in which ways, and about which things.
KINDS = ("a sum", "a capital", "a story")
WAYS = (
    ("What is {}?", "How much is {}?", "Can you add {}?", "Tell me the sum of {}."),
    (
        "What is the capital of {}?",
        "Name the capital of {}.",
        "{} has which capital?",
        "Tell me the main city of {}.",
    ),
    (
        "Tell me a story about {}.",
        "Write a tale about {}.",
        "A story of {}, please.",
        "Tell me what happened to {}.",
    ),
)
THINGS = (
    ("1 and 4", "7 and 2", "8 and 11", "3 and 9", "12 and 5", "20 and 6"),
    ("France", "Japan", "Egypt", "Norway", "Peru", "Canada"),
    ("a fox", "a cat", "an owl", "a bear", "a child", "two birds"),
)


def main() -> None:
    """Train, save, reload, and count what is right among requests never shown."""
    arguments = read_arguments(__doc__, num_steps=40)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    shown, kept_back = make_requests()

    model = connect(arguments)
    print(f"Right before training: {accuracy(model, tokenizer, kept_back):.0%}")
    train(model, tokenizer, shown, arguments.num_steps)
    print(f"Right after training: {accuracy(model, tokenizer, kept_back):.0%}")
    model.save_trained(arguments.output)
    model.close()

    model = connect(arguments)
    model.load_trained(arguments.output)
    right = accuracy(model, tokenizer, kept_back)
    print(f"Right in a fresh model with what {arguments.output} holds: {right:.0%}")
    model.close()


def connect(arguments: Arguments) -> Any:
    """Return a model with new prompts and a new head; its blocks are on the swarm's servers."""
    return AutoDistributedModelForSequenceClassification.from_pretrained(
        arguments.model,
        initial_peers=arguments.initial_peers,
        num_labels=len(KINDS),
        tuning_mode="deep_ptune",
        pre_seq_len=8,
    )


def make_requests() -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Return requests with the index of their kind: those to show, and those kept back."""
    requests = [
        (way.format(thing), kind)
        for kind, (ways, things) in enumerate(zip(WAYS, THINGS, strict=True))
        for way, thing in product(ways, things)
    ]
    random.Random(0).shuffle(requests)
    return requests[24:], requests[:24]


def train(
    model: Any,
    tokenizer: Any,
    labelled: Sequence[tuple[str, int]],
    num_steps: int,
) -> None:
    """Train prompts and head together."""
    chosen = random.Random(0)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    losses = []
    for _ in track(range(num_steps), "training"):
        texts, labels = zip(*chosen.sample(labelled, 8), strict=True)
        loss = model(**make_batch(tokenizer, texts), labels=torch.tensor(labels)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.3f} at last")


def accuracy(model: Any, tokenizer: Any, labelled: Sequence[tuple[str, int]]) -> float:
    """Return the part of the requests that the model sorts as labelled."""
    texts, labels = zip(*labelled, strict=True)
    with torch.no_grad():
        logits = model(**make_batch(tokenizer, texts)).logits
    return float((logits.argmax(-1) == torch.tensor(labels)).float().mean())


def make_batch(tokenizer: Any, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return token ids and the mask of their padding, which is on the right."""
    batch = tokenizer(list(texts), padding=True, padding_side="right", return_tensors="pt")
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


if __name__ == "__main__":
    main()
