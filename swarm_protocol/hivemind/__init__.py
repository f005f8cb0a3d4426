"""The real `Node`: hivemind's libp2p daemon and DHT in the caller's event loop.

The one place that imports hivemind. hivemind installs a log handler of its own when imported;
it is taken away here, so that its records reach the application's logging like any library's.
"""

from hivemind.utils.logging import use_hivemind_log_handler

from swarm_protocol.hivemind.daemon import make_identity
from swarm_protocol.hivemind.node import HivemindNode, NodeSettings

__all__ = ["HivemindNode", "NodeSettings", "make_identity"]

use_hivemind_log_handler("nowhere")
