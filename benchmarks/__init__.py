"""Benchmarks: one question per script, one JSON object on stdout.

Run one as `python -m benchmarks.<name>`. Numbers that are compared come from the same run, because
machines differ and are shared; results with machine and commit are kept in `docs/benchmarks.md`.
"""
