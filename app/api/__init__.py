"""The public surfaces: a folder per dialect, and what they share.

    openai  responses  anthropic  petals    dialects; none knows another's endpoints
    answers                                 one answer per request: its run, its journal, its stream
    admin  openapi  health  swarm  tokens   facts and work on the gateway itself

A surface reads what a caller sent, asks the engine, and answers in its own dialect. None knows
tensors.
"""
