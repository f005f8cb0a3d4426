"""Nonsense of all kinds against the whole gateway: no crash, no hang, nothing left behind.

`pytest tests/fuzz` is the short form, `pytest tests/fuzz --hypothesis-profile=fuzz` the long one.
"""
