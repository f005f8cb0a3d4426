"""Families of models: what runs locally, and the facts of a checkpoint."""
