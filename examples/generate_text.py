"""Step 1: text from a model whose blocks are on servers, in the ways that transformers knows.

The embeddings and the LM head are in this process; everything between them is remote.
"""

from transformers import AutoTokenizer, TextStreamer

from examples.arguments import read_arguments
from swarm_client import AutoDistributedModelForCausalLM

QUESTION = "<|user|>{}<|end|><|assistant|>"  # the demo model's way to be asked


def main() -> None:
    """Answer greedily, with sampling, with beams, and word by word."""
    arguments = read_arguments(__doc__)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoDistributedModelForCausalLM.from_pretrained(
        arguments.model, initial_peers=arguments.initial_peers
    )

    question = QUESTION.format("What is the capital of France?")
    inputs = tokenizer(question, return_tensors="pt")["input_ids"]
    outputs = model.generate(inputs, max_new_tokens=24, do_sample=False)
    print("greedy: ", tokenizer.decode(outputs[0]))

    story = tokenizer(QUESTION.format("Tell me a story."), return_tensors="pt")["input_ids"]
    outputs = model.generate(story, max_new_tokens=32, do_sample=True, temperature=0.8, top_p=0.9)
    print("sampled:", tokenizer.decode(outputs[0]))

    outputs = model.generate(story, max_new_tokens=32, do_sample=False, num_beams=3)
    print("beams:  ", tokenizer.decode(outputs[0]))

    print("stream:  ", end="")
    streamer = TextStreamer(tokenizer, skip_prompt=True)
    model.generate(story, max_new_tokens=32, do_sample=False, streamer=streamer)
    model.close()


if __name__ == "__main__":
    main()
