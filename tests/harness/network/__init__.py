"""Swarms on several hosts, with links between them that are slow, lossy or cut."""
