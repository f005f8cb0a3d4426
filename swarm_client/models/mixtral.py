"""Mixtral: on the client's side it is a Llama."""

from typing import Final

from swarm_client.models.llama import llama_like

MIXTRAL: Final = llama_like("Mixtral", "mixtral")
