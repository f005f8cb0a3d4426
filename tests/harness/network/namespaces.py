"""Network namespaces of Linux, entered by threads, and TUN devices inside them.

A namespace here has no name: it lives as long as a descriptor of it is open or a process runs in
it, so that nothing is left behind when processes end, however they do.
"""

import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Final

_OWN_NAMESPACE: Final = "/proc/thread-self/ns/net"
_TUN_DRIVER: Final = "/dev/net/tun"
_CLONE_NEWNET: Final = 0x40000000

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_WITHOUT_HEADER: Final = 0x1001
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFADDR: Final = 0x8916
_SIOCSIFNETMASK: Final = 0x891C
_SIOCSIFMTU: Final = 0x8922
_SIOCSIFTXQLEN: Final = 0x8943
_IFF_UP_RUNNING: Final = 0x41

_MTU: Final = 1500
_QUEUE_PACKETS: Final = 10_000


class PrivilegeError(Exception):
    """The system lets this process make no namespace or no TUN device."""


def make_namespace() -> int:
    """Return a descriptor of a new network namespace, in which only loopback works.

    Raises:
        PrivilegeError: we may not, or this is not Linux.
    """
    if sys.platform != "linux":
        raise PrivilegeError("network namespaces are a thing of Linux")
    before = os.open(_OWN_NAMESPACE, os.O_RDONLY)
    try:
        _call("unshare", _CLONE_NEWNET)
        try:
            made = os.open(_OWN_NAMESPACE, os.O_RDONLY)
            _set_up("lo")
        finally:
            _call("setns", before, _CLONE_NEWNET)
    finally:
        os.close(before)
    return made


@contextmanager
def entered(namespace: Path) -> Iterator[None]:
    """Let this thread make its sockets, threads and processes in a namespace, for the block.

    Sockets stay in the namespace in which they were made, wherever they are used later.
    """
    before, wanted = os.open(_OWN_NAMESPACE, os.O_RDONLY), os.open(namespace, os.O_RDONLY)
    try:
        _call("setns", wanted, _CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", before, _CLONE_NEWNET)
    finally:
        os.close(before)
        os.close(wanted)


def open_tun(namespace: int, address: str) -> int:
    """Make a TUN device in a namespace, up, with an IPv4 address in a /24 network.

    Returns:
        A descriptor that does not block: it reads and takes whole IP packets.

    Raises:
        PrivilegeError: we may not.
    """
    name = "link0"
    with entered(Path(f"/proc/self/fd/{namespace}")):
        try:
            device = os.open(_TUN_DRIVER, os.O_RDWR | os.O_NONBLOCK)
            ioctl(
                device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN_WITHOUT_HEADER)
            )
        except OSError as error:
            raise PrivilegeError(f"cannot make a TUN device: {error.strerror}") from error
        _configure(name, _SIOCSIFADDR, _ipv4(address))
        _configure(name, _SIOCSIFNETMASK, _ipv4("255.255.255.0"))
        _configure(name, _SIOCSIFMTU, struct.pack("i", _MTU))
        _configure(name, _SIOCSIFTXQLEN, struct.pack("i", _QUEUE_PACKETS))
        _set_up(name)
    return device


def _set_up(name: str) -> None:
    _configure(name, _SIOCSIFFLAGS, struct.pack("h", _IFF_UP_RUNNING))


def _configure(name: str, request: int, value: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        ioctl(any_socket, request, struct.pack("16s24s", name.encode(), value))


def _ipv4(address: str) -> bytes:
    return struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(address))


def _call(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) != 0:
        raise PrivilegeError(f"{name}: {os.strerror(ctypes.get_errno())}")
