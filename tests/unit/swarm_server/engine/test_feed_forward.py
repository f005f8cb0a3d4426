"""MLPs and mixtures."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import silu

from swarm_server.engine.adaptable_linear import AdaptableLinear, AdapterRows
from swarm_server.engine.feed_forward import GatedMLP, MixtureOfExperts
from swarm_server.engine.linear import make_linear


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def product(weight: Tensor) -> AdaptableLinear:
    return AdaptableLinear("some", make_linear(weight))


class CountingExpert:
    """Multiplies by a number, and remembers how many tokens came."""

    def __init__(self, factor: float) -> None:
        self.num_tokens = 0
        self._factor = factor

    def __call__(self, hidden: Tensor, adapters: Sequence[AdapterRows]) -> Tensor:
        self.num_tokens += len(hidden)
        return hidden * self._factor


def test_gate_comes_before_up() -> None:
    """The first half of the product opens the second."""
    gate_up, down, hidden = random(6, 4, seed=0), random(4, 3, seed=1), random(2, 4, seed=2)

    outputs = GatedMLP(product(gate_up), product(down))(hidden, [])

    expected = (silu(hidden @ gate_up[:3].T) * (hidden @ gate_up[3:].T)) @ down.T
    torch.testing.assert_close(outputs, expected)


def test_nothing_that_autograd_keeps_is_overwritten() -> None:
    """A backward pass through a gated MLP gives the same as without overwriting."""
    gate_up, down = random(6, 4, seed=0), random(4, 3, seed=1)
    mlp = GatedMLP(product(gate_up), product(down))
    hidden = random(2, 4, seed=2).requires_grad_()

    outputs = mlp(hidden, [])

    (gradient,) = torch.autograd.grad(outputs.sum(), hidden)
    assert torch.isfinite(gradient).all()
    with torch.no_grad():
        torch.testing.assert_close(outputs, mlp(hidden, []))


def test_only_chosen_experts_run_and_their_shares_sum_to_one() -> None:
    """Two of four experts for each token, weighted by the router's softmax over these two."""
    experts = [CountingExpert(factor) for factor in (1.0, 10.0, 100.0, 1000.0)]
    router = torch.tensor([[4.0, 0.0], [3.0, 0.0], [-1.0, 9.0], [-9.0, -9.0]])
    hidden = torch.tensor([[1.0, 0.0], [1.0, 0.0]])

    outputs = MixtureOfExperts(product(router), experts, top_k=2)(hidden, [])

    share = torch.sigmoid(torch.tensor(1.0)).item()
    expected = share * 1.0 + (1 - share) * 10.0
    torch.testing.assert_close(outputs, hidden * expected)
    assert [expert.num_tokens for expert in experts] == [2, 2, 0, 0]
