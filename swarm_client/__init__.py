"""The library: turns "generate" into steps over spans held by remote servers.

Entry points: `AutoDistributedModelForCausalLM` and `SwarmConnection`. Must not know HTTP or the
block server.
"""
