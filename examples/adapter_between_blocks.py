"""Step 4: a classifier with layers of ours between remote blocks, trained end to end.

The blocks stay frozen and remote; the adapter and the head are here, and only they learn.
"""

from typing import Final

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from examples.arguments import read_arguments
from swarm_client import AutoDistributedModelForCausalLM, RemoteSequential
from swarm_client.tuning import load_trained, save_trained

RANK: Final = 32
NUM_CLASSES: Final = 2


class AdaptedClassifier(nn.Module):
    """Half of the blocks, an adapter, the other half, and a head."""

    def __init__(self, blocks: RemoteSequential, hidden_size: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.adapter = nn.Sequential(nn.Linear(hidden_size, RANK), nn.Linear(RANK, hidden_size))
        self.head = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, NUM_CLASSES))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return scores `[batch, NUM_CLASSES]` of `[batch, num_tokens, hidden_size]`."""
        middle = len(self.blocks) // 2
        hidden = self.blocks[:middle](embeddings)
        hidden = self.adapter(hidden)
        hidden = self.blocks[middle:](hidden)
        scores: Tensor = self.head(hidden.mean(1))
        return scores


def main() -> None:
    """Learn three random sequences by heart; save, read back, and compare."""
    arguments = read_arguments(__doc__, num_steps=20)
    torch.manual_seed(0)
    model = AutoDistributedModelForCausalLM.from_pretrained(
        arguments.model, initial_peers=arguments.initial_peers
    )
    hidden_size = model.config.hidden_size
    inputs, labels = torch.randn(3, 2, hidden_size), torch.tensor([1, 0, 1])

    classifier = AdaptedClassifier(model.transformer.h, hidden_size)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
    losses = []
    for _ in track(range(arguments.num_steps), "training"):
        loss = cross_entropy(classifier(inputs), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type here
        optimizer.step()
        losses.append(loss.item())
    print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.3f} at last")

    save_trained(classifier, model.trained_for, arguments.output)
    reloaded = AdaptedClassifier(model.transformer.h, hidden_size)
    load_trained(reloaded, model.trained_for, arguments.output)
    print("predicted:", reloaded(inputs).argmax(-1).tolist(), "wanted:", labels.tolist())
    print("saved in", arguments.output)
    model.close()


if __name__ == "__main__":
    main()
