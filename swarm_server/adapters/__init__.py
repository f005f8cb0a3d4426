"""LoRA adapters in PEFT's format: read, checked, and laid out for the linear layers of a span.

Entry points: `AdapterFiles.open` and `adapter_name`. Only safetensors are read. Must not know
families of models: they say what their layers are made of (`Layer`).
"""

from swarm_server.adapters.files import AdapterFiles, adapter_name
from swarm_server.adapters.layers import Layer, Layers, Module

__all__ = ["AdapterFiles", "Layer", "Layers", "Module", "adapter_name"]
