"""Emulated links between namespaces, measured from inside."""

import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from tests.harness.network.emulated_network import EmulatedNetwork, namespace_network
from tests.harness.network.hosts import Host
from tests.harness.network.link import LinkTerms
from tests.harness.network.namespaces import PrivilegeError

_WAIT_S = 0.3


@pytest.fixture
def network() -> Iterator[EmulatedNetwork]:
    """Three hosts with perfect links."""
    try:
        with namespace_network(3, seed=1) as network:
            yield network
    except PrivilegeError as error:
        pytest.skip(f"no network namespaces here: {error}")


@contextmanager
def udp_socket(host: Host) -> Iterator[socket.socket]:
    with host.entered():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with made:
        made.settimeout(_WAIT_S)
        made.bind((host.address, 0))
        yield made


def has_passed(source: socket.socket, target: socket.socket) -> bool:
    """Send a packet and tell whether it arrives."""
    source.sendto(b"?", target.getsockname())
    try:
        return target.recv(100) == b"?"
    except TimeoutError:
        return False


def one_way_ms(source: socket.socket, target: socket.socket) -> float:
    started_at = time.perf_counter()
    assert has_passed(source, target)
    return 1e3 * (time.perf_counter() - started_at)


def send_and_count(source: socket.socket, target: socket.socket, num_packets: int) -> int:
    """Return how many of so many packets arrive; few enough for the target's buffer."""
    for _ in range(num_packets):
        source.sendto(b"?", target.getsockname())
    target.settimeout(0.05)
    num_received = 0
    with suppress(TimeoutError):
        while target.recv(100):
            num_received += 1
    return num_received


def test_packet_takes_as_long_as_asked_in_each_direction(network: EmulatedNetwork) -> None:
    """Half of 21 packets are less than 1.5 ms late, on a machine that others use, too."""
    here, there, _ = network.hosts
    network.shape(here, there, LinkTerms(delay_s=0.025))
    network.shape(there, here, LinkTerms(delay_s=0.005))

    with udp_socket(here) as one, udp_socket(there) as other:
        out = [one_way_ms(one, other) for _ in range(21)]
        back = [one_way_ms(other, one) for _ in range(21)]

    assert min(out) >= 25
    assert min(back) >= 5
    assert statistics.median(out) < 26.5
    assert statistics.median(back) < 6.5


def test_so_many_packets_get_lost_as_were_asked_for(network: EmulatedNetwork) -> None:
    """Chance is seeded, so this is the same 400 packets each time; three deviations are 28."""
    here, there, _ = network.hosts
    network.shape(here, there, LinkTerms(loss=0.3))

    with udp_socket(here) as one, udp_socket(there) as other:
        num_received = sum(send_and_count(one, other, 40) for _ in range(10))

    assert 252 <= num_received <= 308


def test_cut_is_one_way_and_silent_and_heals(network: EmulatedNetwork) -> None:
    """No error tells the sender, and the other direction goes on."""
    here, there, _ = network.hosts

    with udp_socket(here) as one, udp_socket(there) as other:
        network.cut(here, there)
        assert not has_passed(one, other)
        assert has_passed(other, one)
        network.cut(here, there, is_cut=False)
        assert has_passed(one, other)


def test_isolated_host_is_out_of_reach_for_all_and_others_go_on(network: EmulatedNetwork) -> None:
    """And its links have the terms of before when it is back."""
    first, second, third = network.hosts
    network.shape_all(LinkTerms(delay_s=0.01))

    with udp_socket(first) as one, udp_socket(second) as two, udp_socket(third) as three:
        network.isolate(third)
        assert not has_passed(one, three)
        assert not has_passed(three, two)
        assert has_passed(one, two)
        network.isolate(third, is_cut=False)
        assert one_way_ms(three, two) >= 10


def test_connection_gets_the_rate_of_its_link(network: EmulatedNetwork) -> None:
    """2 MB at 4 MB/s take half a second, and headers and losses a little more."""
    here, there, _ = network.hosts
    network.link(here, there, LinkTerms(delay_s=0.001, rate_bytes_per_s=4e6))
    with there.entered():
        listener = socket.create_server((there.address, 0))

    def receive_all() -> None:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(65536):
                pass

    receiver = threading.Thread(target=receive_all)
    with listener, here.entered():
        receiver.start()
        started_at = time.perf_counter()
        with socket.create_connection(listener.getsockname()) as connection:
            connection.sendall(bytes(2_000_000))
        receiver.join(10)
        took_s = time.perf_counter() - started_at

    assert 0.5 <= took_s < 0.8


def test_program_started_on_a_host_has_only_its_address(network: EmulatedNetwork) -> None:
    """So it is reached over emulated links or not at all."""
    _, host, _ = network.hosts
    code = "import psutil; print(sorted(a[0].address for a in psutil.net_if_addrs().values()))"

    with host.entered():
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert ran.stdout.strip() == f"['{host.address}', '127.0.0.1']"
    assert host.address not in [a[0].address for a in psutil.net_if_addrs().values()]


def test_switch_ends_with_its_input_and_so_with_its_owner() -> None:
    """Namespaces and devices have no names: they are gone with its descriptors."""
    command = [sys.executable, "-m", "tests.harness.network.packet_switch", "0", "10.77.0.1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as switch:
        assert switch.stdin is not None
        assert switch.stdout is not None
        assert switch.stdout.readline()

        switch.stdin.close()

        assert switch.wait(5) == 0
