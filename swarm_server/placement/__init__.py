"""Which blocks a server should hold, given what others hold. Pure; see PETALS_PROTOCOL §7.2."""

from swarm_server.placement.spans import AnnouncedSpan, read_spans
from swarm_server.placement.window import choose_window, throughput_per_block

__all__ = ["AnnouncedSpan", "choose_window", "read_spans", "throughput_per_block"]
