"""Qwen3: on the client's side it is a Llama."""

from typing import Final

from swarm_client.models.llama import llama_like

QWEN3: Final = llama_like("Qwen3", "qwen3")
