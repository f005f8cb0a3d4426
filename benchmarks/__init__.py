"""Benchmarks: one question per script, JSON on stdout."""
