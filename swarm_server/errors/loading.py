"""What keeps a server from starting, or from going on."""

from swarm_protocol.errors import CheckpointError, SwarmError


class BlockRangeError(SwarmError):
    """The wanted blocks are not in the model."""

    code = "bad_block_range"

    def __init__(self, wanted: str, num_blocks: int) -> None:
        super().__init__(
            f"cannot serve blocks {wanted}: the model has {num_blocks} blocks, 0:{num_blocks}"
        )
        self.wanted = wanted
        self.num_blocks = num_blocks


class AdapterError(CheckpointError):
    """An adapter cannot be served: its files are missing, damaged, do not fit, or ask too much."""

    code = "bad_adapter"

    def __init__(self, adapter: str, reason: str) -> None:
        super().__init__(f"adapter {adapter}: {reason}")
        self.adapter = adapter


class DeviceError(SwarmError):
    """There is no such device to compute on."""

    code = "bad_device"

    def __init__(self, device: str) -> None:
        super().__init__(f"this machine has no device {device!r:.60} to compute on")
        self.device = device


class DeviceBrokenError(SwarmError):
    """The device computes nothing any more; the server ends, so that another process may try."""

    code = "device_broken"

    def __init__(self, device: str) -> None:
        super().__init__(f"the device {device!r:.60} computes nothing any more in this process")
        self.device = device
