"""Products of rows with weights [num_outputs, width], with what comes before and after them."""

from torch import Tensor
from torch.nn.functional import linear

from swarm_server.engine.cuda import lone_row
from swarm_server.engine.cuda.row_kernels import gate, rms_norm


def multiply_normed(
    rows: Tensor, norm_weight: Tensor, eps: float, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Return the product with rows [num_rows, width] of unit root mean square, plus the bias."""
    if len(rows) == 1:
        return lone_row.multiply_normed(rows, norm_weight, eps, weight, bias)
    return linear(rms_norm(rows, norm_weight, eps), weight, bias)


def gate_normed(
    rows: Tensor, norm_weight: Tensor, eps: float, gate_up: Tensor, bias: Tensor | None
) -> Tensor:
    """Return `silu(gate) * up` of normed rows; `gate_up` is both weights, the gate's first."""
    if len(rows) == 1:
        return lone_row.gate_normed(rows, norm_weight, eps, gate_up, bias)
    return gate(linear(rms_norm(rows, norm_weight, eps), gate_up, bias))


def add_product(total: Tensor, rows: Tensor, weight: Tensor) -> None:
    """Add the product with rows to `total` [num_rows, num_outputs], in place."""
    if len(rows) == 1:
        lone_row.add_product(total, rows, weight)
    else:
        total.addmm_(rows, weight.t())  # the sum is part of the product
