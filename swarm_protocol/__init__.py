"""What crosses the wire: ids, records, metadata, tensors, errors and the node that carries them.

Entry points: `swarm_protocol.node.Node` and `swarm_protocol.hivemind.HivemindNode`. The only
package that imports hivemind, and only parts of it: that is settled here, before any module of
ours can import one. Must not know models, routes or callers.
"""

from swarm_protocol.hivemind_parts import import_hivemind_in_parts

import_hivemind_in_parts()
