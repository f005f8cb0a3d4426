"""Step 2: a conversation in one session, token by token.

The servers keep the keys and values of what was said, so that each turn sends only new tokens.
"""

import sys
from collections.abc import Iterator
from typing import Final

from transformers import AutoTokenizer

from examples.arguments import read_arguments
from swarm_client import AutoDistributedModelForCausalLM, BlockingSession
from swarm_client.models.causal_lm import DistributedCausalLM

TURN: Final = "<|user|>{}<|end|><|assistant|>"
SCRIPT: Final = ("My name is Maria.", "What is my name?", "Tell me a short story.")
MAX_ANSWER: Final = 96


def main() -> None:
    """Ask the questions of a script or, on a terminal, those that are typed; then try again."""
    arguments = read_arguments(__doc__)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoDistributedModelForCausalLM.from_pretrained(
        arguments.model, initial_peers=arguments.initial_peers
    )

    with model.inference_session(max_length=512) as session:
        before, text = 0, ""
        for question in _questions():
            before = session.position
            text = ("" if before else "<|bos|>") + TURN.format(question)
            print("Model: ", end="")
            answer(model, tokenizer, session, text)
        print(f"the servers hold {session.position} tokens of this conversation")

        # Back to before the last question: session and servers forget what came after.
        if text:
            session.position = before
            print(f"once more from position {before}: ", end="")
            answer(model, tokenizer, session, text)
    model.close()


def answer(
    model: DistributedCausalLM, tokenizer: AutoTokenizer, session: BlockingSession, text: str
) -> None:
    """Print the answer to a text as it comes, one `generate` for each token."""
    # Tokenizers may drop a leading space, but never behind another token.
    anchor = tokenizer("^")["input_ids"][-1]
    inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    for _ in range(MAX_ANSWER):
        outputs = model.generate(inputs, max_new_tokens=1, session=session, top_p=0.6)
        token = outputs[0, -1].item()
        if token == tokenizer.eos_token_id:
            break
        print(tokenizer.decode([anchor, token])[1:], end="", flush=True)
        inputs = None  # the rest of the session is with the servers
    print()


def _questions() -> Iterator[str]:
    if sys.stdin.isatty():
        print("An empty line ends the conversation.")
        yield from iter(lambda: input("Human: "), "")
    else:
        for question in SCRIPT:
            print("Human:", question)
            yield question


if __name__ == "__main__":
    main()
