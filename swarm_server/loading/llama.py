"""The Llama family: its config, and how the tensors of its blocks are called."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import CheckpointError
from swarm_server.engine.decoder_block import BlockShape, BlockWeights, DecoderBlock
from swarm_server.loading.config import read_count, read_flag, read_number
from swarm_server.loading.rope import read_rope


class LlamaFamily:
    """Models whose `model_type` is `llama`; see `registry.Family`."""

    model_type = "llama"

    def shape(self, config: Mapping[str, Any]) -> BlockShape:
        """Return the sizes in a config. Raises CheckpointError for what the engine lacks."""
        activation = config.get("hidden_act", "silu")
        if activation != "silu":
            raise CheckpointError(f"config.json: hidden_act {activation!r:.40} is not served")
        if config.get("quantization_config"):
            raise CheckpointError("config.json: quantized checkpoints are not served")
        hidden_size = read_count(config, "hidden_size")
        num_heads = read_count(config, "num_attention_heads")
        num_kv_heads = read_count(config, "num_key_value_heads", num_heads)
        head_dim = read_count(config, "head_dim", max(1, hidden_size // num_heads))
        if num_heads % num_kv_heads or head_dim % 2:
            raise CheckpointError(
                f"config.json: {num_heads} heads of {head_dim} do not share {num_kv_heads} KV heads"
            )
        return BlockShape(
            hidden_size=hidden_size,
            intermediate_size=read_count(config, "intermediate_size"),
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            norm_eps=read_number(config, "rms_norm_eps", 1e-6),
            rope=read_rope(config),
            has_attention_bias=read_flag(config, "attention_bias"),
            has_mlp_bias=read_flag(config, "mlp_bias"),
        )

    def load_block(
        self,
        checkpoint: Checkpoint,
        shape: BlockShape,
        index: int,
        *,
        dtype: torch.dtype,
        device: str,
    ) -> DecoderBlock:
        """Return one block with its weights. Raises CheckpointError when one is not there."""
        sizes = _tensor_sizes(shape)
        prefix = f"model.layers.{index}."
        tensors = checkpoint.load([prefix + name for name in sizes], dtype)
        for name, size in sizes.items():
            if tensors[prefix + name].shape != size:
                raise CheckpointError(
                    f"{prefix}{name} must have shape {list(size)}, "
                    f"got {list(tensors[prefix + name].shape)}"
                )
        return DecoderBlock(shape, _fuse(tensors, prefix, device))


def _tensor_sizes(shape: BlockShape) -> dict[str, tuple[int, ...]]:
    """Return names below `model.layers.<index>.` of every parameter, and their shapes."""
    hidden, mlp = shape.hidden_size, shape.intermediate_size
    query = shape.num_heads * shape.head_dim
    key = shape.num_kv_heads * shape.head_dim
    attention: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key, hidden),
        "self_attn.v_proj": (key, hidden),
        "self_attn.o_proj": (hidden, query),
    }
    gated: dict[str, tuple[int, ...]] = {
        "mlp.gate_proj": (mlp, hidden),
        "mlp.up_proj": (mlp, hidden),
        "mlp.down_proj": (hidden, mlp),
    }
    sizes = {f"{name}.weight": size for name, size in (attention | gated).items()}
    if shape.has_attention_bias:
        sizes |= {f"{name}.bias": size[:1] for name, size in attention.items()}
    if shape.has_mlp_bias:
        sizes |= {f"{name}.bias": size[:1] for name, size in gated.items()}
    sizes["input_layernorm.weight"] = (hidden,)
    sizes["post_attention_layernorm.weight"] = (hidden,)
    return sizes


def _fuse(tensors: dict[str, Tensor], prefix: str, device: str) -> BlockWeights:
    """Return the block's weights on the device; takes the tensors out of `tensors`."""

    def take(*names: str) -> Tensor:
        parts = [tensors.pop(prefix + name) for name in names]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).to(device)

    def take_if_there(*names: str) -> Tensor | None:
        return take(*names) if prefix + names[0] in tensors else None

    return BlockWeights(
        attention_norm=take("input_layernorm.weight"),
        mlp_norm=take("post_attention_layernorm.weight"),
        qkv=take(*(f"self_attn.{part}_proj.weight" for part in "qkv")),
        attention_out=take("self_attn.o_proj.weight"),
        gate_up=take("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        down=take("mlp.down_proj.weight"),
        qkv_bias=take_if_there(*(f"self_attn.{part}_proj.bias" for part in "qkv")),
        attention_out_bias=take_if_there("self_attn.o_proj.bias"),
        gate_up_bias=take_if_there("mlp.gate_proj.bias", "mlp.up_proj.bias"),
        down_bias=take_if_there("mlp.down_proj.bias"),
    )
