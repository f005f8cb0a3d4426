"""The public surfaces: one module each, and what they share.

A surface reads what a caller sent, asks the engine, and answers in its own dialect. None knows
another; none knows tensors.
"""
