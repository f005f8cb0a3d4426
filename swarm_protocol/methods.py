"""Protocol ids of the remote methods. Source: PETALS_PROTOCOL §0.2; the strings are fixed."""

from typing import Final

RPC_INFO: Final = "TransformerConnectionHandler.rpc_info"
RPC_INFERENCE: Final = "TransformerConnectionHandler.rpc_inference"
RPC_PUSH: Final = "TransformerConnectionHandler.rpc_push"
RPC_FORWARD: Final = "TransformerConnectionHandler.rpc_forward"
RPC_FORWARD_STREAM: Final = "TransformerConnectionHandler.rpc_forward_stream"
RPC_BACKWARD: Final = "TransformerConnectionHandler.rpc_backward"
RPC_BACKWARD_STREAM: Final = "TransformerConnectionHandler.rpc_backward_stream"
