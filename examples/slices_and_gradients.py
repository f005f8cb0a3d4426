"""Step 3: remote blocks as a PyTorch module that can be sliced, and that gradients pass through."""

import torch

from examples.arguments import read_arguments
from swarm_client import AutoDistributedModelForCausalLM


def main() -> None:
    """Run random hidden states through some blocks, and gradients back."""
    arguments = read_arguments(__doc__)
    model = AutoDistributedModelForCausalLM.from_pretrained(
        arguments.model, initial_peers=arguments.initial_peers
    )

    blocks = model.transformer.h
    print(blocks)
    print(f"{len(blocks)} blocks; the last one is {blocks[-1]}")

    first_five = blocks[0:5]
    inputs = torch.randn(1, 3, model.config.hidden_size, requires_grad=True)
    outputs = first_five(inputs)
    print("from the first five:", tuple(outputs.shape))

    loss = torch.mean((outputs - torch.ones_like(outputs)) ** 2)
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no type here
    assert inputs.grad is not None, "backward reached the inputs"
    print(f"the loss is {loss.item():.4f}; its gradient, {inputs.grad.norm().item():.6f} long")
    model.close()


if __name__ == "__main__":
    main()
