"""What crosses the wire: ids, records, metadata, tensors, errors and the node that carries them.

Entry points: `swarm_protocol.node.Node` and `swarm_protocol.hivemind.HivemindNode`. The only
package that imports hivemind. Must not know models, routes or callers.
"""
