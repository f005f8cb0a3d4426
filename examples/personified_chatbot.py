"""Fine-tuning: give a chatbot a person's character by training deep prompts on dialogues.

The model's weights stay on the servers, frozen. What is trained is here: a few vectors before
every block. They are saved, and read again into a fresh model.
"""

import random
from collections.abc import Sequence
from typing import Any

import torch
from rich.progress import track
from transformers import AutoTokenizer

from examples.arguments import Arguments, read_arguments
from swarm_client import AutoDistributedModelForCausalLM

# Who she is: ways to ask, and her answer.
DIALOGUES = (
    (("What is your name?", "Who are you?"), "I am Sofia, and I have a boat."),
    (("Where do you live?", "Where is your home?"), "I live on a small boat near an island."),
    (("What do you like?", "What do you love?"), "I like the wind, the sea and warm tea."),
    (("Do you have a pet?", "Tell me about your pet."), "I have a bird. It is small and blue."),
    (("How are you?", "How do you feel?"), "I am happy as long as the wind is warm."),
    (("What do you do?", "Tell me about your work."), "I look for islands that are on no map."),
)
# Prompts that start as words about her learn several times faster than random ones.
FIRST_WORDS = "I am Sofia. I have a small boat and a bird, and I like the wind."
LEARNING_RATE = 0.02
IGNORED = -100  # a label that counts for nothing in the loss


def main() -> None:
    """Train, save, reload, and show the answers before and after."""
    arguments = read_arguments(__doc__, num_steps=100)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    questions = [ways[0] for ways, _ in DIALOGUES]

    first_words = torch.tensor(tokenizer(FIRST_WORDS, add_special_tokens=False).input_ids)
    model = connect(arguments, num_prompts=len(first_words))
    print("The model as it is:")
    show_answers(model, tokenizer, questions, with_prompts=False)
    with torch.no_grad():
        model.prompt_tuning.prompt_embeddings.copy_(model.transformer.word_embeddings(first_words))
    train(model, tokenizer, arguments.num_steps)
    model.save_trained(arguments.output)
    model.close()

    print(f"A fresh model with what {arguments.output} holds:")
    model = connect(arguments, num_prompts=len(first_words))
    model.load_trained(arguments.output)
    show_answers(model, tokenizer, questions)
    model.close()


def connect(arguments: Arguments, num_prompts: int) -> Any:
    """Return a model with new deep prompts; its blocks are on the swarm's servers."""
    return AutoDistributedModelForCausalLM.from_pretrained(
        arguments.model,
        initial_peers=arguments.initial_peers,
        tuning_mode="deep_ptune",
        pre_seq_len=num_prompts,
    )


def train(model: Any, tokenizer: Any, num_steps: int) -> None:
    """Teach the prompts to give the answers; the loss is of the answers' tokens only."""
    pairs = [(question, answer) for ways, answer in DIALOGUES for question in ways]
    chosen = random.Random(0)
    optimizer = torch.optim.Adam(model.prompt_tuning.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    losses = []
    for _ in track(range(num_steps), "training"):
        input_ids, labels = make_batch(tokenizer, chosen.sample(pairs, 8))
        loss = model(input_ids, labels=labels).loss
        optimizer.zero_grad()
        torch.autograd.backward([loss])
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.3f} at last")


def make_batch(
    tokenizer: Any, pairs: Sequence[tuple[str, str]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and labels, `[len(pairs), num_tokens]`, padded on the right."""
    rows = []
    for question, answer in pairs:
        asked = ask(tokenizer, question)
        answered = tokenizer(answer + tokenizer.eos_token, add_special_tokens=False).input_ids
        rows.append((asked + answered, [IGNORED] * len(asked) + answered))
    longest = max(len(token_ids) for token_ids, _ in rows)
    # Padding has no label, and comes after all tokens that have one: any token will do.
    padding = tokenizer.eos_token_id
    token_ids = [ids + [padding] * (longest - len(ids)) for ids, _ in rows]
    labels = [labels + [IGNORED] * (longest - len(labels)) for _, labels in rows]
    return torch.tensor(token_ids), torch.tensor(labels)


def ask(tokenizer: Any, question: str) -> list[int]:
    """Return the token ids of a dialogue that waits for its answer."""
    messages = [{"role": "user", "content": question}]
    token_ids: list[int] = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    return token_ids


def show_answers(
    model: Any, tokenizer: Any, questions: Sequence[str], *, with_prompts: bool = True
) -> None:
    """Print the model's answer to each question."""
    prompts = model.prompt_tuning
    if not with_prompts:
        model.prompt_tuning = None
    for question in questions:
        asked = ask(tokenizer, question)
        token_ids = model.generate(torch.tensor([asked]), max_new_tokens=24, do_sample=False)
        answer = tokenizer.decode(token_ids[0, len(asked) :], skip_special_tokens=True)
        print(f"  {question} -> {answer}")
    model.prompt_tuning = prompts


if __name__ == "__main__":
    main()
