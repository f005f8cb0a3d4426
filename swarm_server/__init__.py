"""The block server: holds a span of blocks and runs steps of inference sessions through it.

Entry point: `swarm_server.server.BlockServer`. Must not know the client, the gateway or HTTP.
"""
