"""Protocol ids of the remote methods. Source: PETALS_PROTOCOL §0.2; the strings are fixed."""

from typing import Final

RPC_INFO: Final = "TransformerConnectionHandler.rpc_info"
RPC_INFERENCE: Final = "TransformerConnectionHandler.rpc_inference"
