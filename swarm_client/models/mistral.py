"""Mistral: on the client's side it is a Llama."""

from typing import Final

from swarm_client.models.llama import llama_like

MISTRAL: Final = llama_like("Mistral", "mistral")
