"""KV cache of one session."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from swarm_server.kv import SessionKV


def make_kv(max_length: int, batch_size: int = 1) -> SessionKV:
    return SessionKV(
        num_blocks=2,
        batch_size=batch_size,
        num_kv_heads=1,
        head_dim=1,
        max_length=max_length,
        dtype=torch.float32,
    )


def write(kv: SessionKV, values: Tensor) -> tuple[Tensor, Tensor]:
    """Append values, [batch, num_tokens]; keys are their negatives. Returns all of block 1."""
    pairs = torch.stack((-values, values), -1).unsqueeze(-1)
    kv.extend(values.shape[1])
    kv.write(0, pairs + 0.5)
    keys, stored = kv.write(1, pairs)
    kv.advance()
    return keys[:, 0, :, 0], stored[:, 0, :, 0]


def test_memory_grows_with_use_up_to_max_length() -> None:
    """Nothing at first, then by doubling, and never more than was reserved."""
    kv = make_kv(max_length=150)
    capacities = [kv.capacity]
    for num_tokens in (1, 63, 1, 64, 21):
        write(kv, torch.zeros(1, num_tokens))
        capacities.append(kv.capacity)

    assert capacities == [0, 64, 64, 128, 150, 150]


@given(
    st.lists(st.one_of(st.integers(1, 70), st.floats(0, 1), st.permutations(range(3))), max_size=12)
)
def test_contents_follow_any_order_of_steps(
    operations: list[int | float | list[int]],
) -> None:
    """An int appends that many tokens, a float truncates, a list reorders rows."""
    kv, expected, next_value = make_kv(300, batch_size=3), torch.empty(3, 0), 1.0
    for operation in operations:
        if isinstance(operation, float):
            kv.truncate(int(operation * kv.position))
            expected = expected[:, : kv.position]
        elif isinstance(operation, list):
            kv.reorder(torch.tensor(operation))
            expected = expected[operation]
        elif kv.position + operation <= kv.max_length:
            values = torch.arange(next_value, next_value + 3 * operation).view(3, -1)
            next_value += 3 * operation
            keys, stored = write(kv, values)
            expected = torch.cat((expected, values), 1)
            assert torch.equal(stored, expected)
            assert torch.equal(keys, -expected)
        kv.check_integrity()
        assert kv.position == expected.shape[1]
