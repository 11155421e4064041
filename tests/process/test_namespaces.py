import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from tests.process import namespaces
from tests.process.namespaces import Counters, Host, Hosts
from tests.process.runs import wait_for

pytestmark = pytest.mark.process

HEADERS = 14 + 20 + 8
"""Ethernet, IPv4, UDP."""
LARGEST_FRAME = 1514
SLEEP_FOREVER = "import signal; signal.pause()"


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with Hosts.create("a", "b", "c") as created:
        yield created


class TestFailedError(Exception):
    __test__ = False  # pytest: the name is no test's


def answers(host: Host, other: Host, timeout_s: float = 0.3) -> bool:
    """Whether a datagram from one host to the other comes back."""
    with contextlib.ExitStack() as stack:
        with other.inside():
            there = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            there.bind((other.address, 7))
        with host.inside():
            here = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            here.connect((other.address, 7))
        there.settimeout(timeout_s)
        here.settimeout(timeout_s)
        try:
            here.send(b"?")
            _, sender = there.recvfrom(10)
            there.sendto(b"!", sender)
            return here.recv(10) == b"!"
        except OSError:
            return False


def test_every_host_reaches_every_other_and_itself(hosts: Hosts) -> None:
    assert [host.address for host in hosts] == ["10.77.0.1", "10.77.0.2", "10.77.0.3"]
    assert all(answers(host, other, 5.0) for host in hosts for other in hosts)


def test_the_machine_itself_gets_no_interface() -> None:
    before = os.listdir("/sys/class/net")
    with Hosts.create("a", "b") as hosts:
        assert sorted(os.listdir("/sys/class/net")) == sorted(before)
        assert hosts["a"].run(["ls", "/sys/class/net"]).stdout.split() == ["eth0", "lo"]


def test_a_host_without_its_cable_is_alone_until_it_is_plugged_in_again(hosts: Hosts) -> None:
    a, b, c = hosts
    assert answers(a, b, 5.0)
    b.link_down()
    assert not answers(a, b)
    assert not answers(b, a)
    assert answers(a, c, 5.0)
    assert answers(b, b, 5.0)
    b.link_up()
    wait_for("a to reach b", lambda: answers(a, b), 20.0)
    assert answers(b, c, 5.0)


def test_a_connection_outlives_a_short_cut(hosts: Hosts) -> None:
    a, b, _ = hosts
    with contextlib.ExitStack() as stack:
        with b.inside():
            listener = stack.enter_context(socket.create_server((b.address, 0)))
        with a.inside():
            here = stack.enter_context(socket.create_connection(listener.getsockname(), 5.0))
        there = stack.enter_context(listener.accept()[0])
        b.link_down()
        here.sendall(b"sent into the void")
        there.settimeout(0.3)
        with pytest.raises(TimeoutError):
            there.recv(100)
        b.link_up()
        there.settimeout(30.0)
        assert there.recv(100) == b"sent into the void"
        (connection,) = a.connections()
        assert connection.bytes_sent == 18
        assert connection.retransmits > 0
        (accepted,) = b.connections()
        assert accepted.bytes_received == 18
        assert (accepted.local, accepted.peer) == (connection.peer, connection.local)


def test_counters_are_those_of_the_cable(hosts: Hosts) -> None:
    a, b, _ = hosts
    assert answers(a, b, 5.0)  # addresses are resolved
    with b.inside():
        there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        there.bind((b.address, 0))
    with a.inside():
        here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with here, there:
        before_a, before_b = a.counters(), b.counters()
        for _ in range(10):
            here.sendto(bytes(100), there.getsockname())
            there.recv(200)
        sent = 10 * (100 + HEADERS)
        assert a.counters() - before_a == Counters(0, 0, sent, 10)
        assert b.counters() - before_b == Counters(sent, 10, 0, 0)


def test_a_wire_on_which_nobody_speaks_is_silent(hosts: Hosts) -> None:
    time.sleep(2.0)  # IPv6 would have introduced itself
    assert [host.counters() for host in hosts] == [Counters(0, 0, 0, 0)] * 3


def test_frames_are_no_larger_than_those_of_a_cable(hosts: Hosts) -> None:
    a, b, _ = hosts
    size = 3_000_000
    with contextlib.ExitStack() as stack:
        with b.inside():
            listener = stack.enter_context(socket.create_server((b.address, 0)))
        with a.inside():
            here = stack.enter_context(socket.create_connection(listener.getsockname(), 5.0))
        there = stack.enter_context(listener.accept()[0])
        before_a, before_b = a.counters(), b.counters()
        sender = threading.Thread(target=here.sendall, args=(bytes(size),))
        sender.start()
        received = 0
        while received < size:
            received += len(there.recv(1 << 20))
        sender.join()
        sent, arrived = a.counters() - before_a, b.counters() - before_b
    segments = sent.tx_packets
    assert segments >= size / (LARGEST_FRAME - 14 - 20 - 20)
    assert size < sent.tx_bytes <= segments * LARGEST_FRAME
    assert (arrived.rx_bytes, arrived.rx_packets) == (sent.tx_bytes, sent.tx_packets)


def test_a_slow_link_delays_everything_of_its_host_and_nothing_else(hosts: Hosts) -> None:
    a, b, c = hosts
    assert answers(a, b, 5.0)
    assert answers(a, c, 5.0)
    with b.slow_link(0.03, 0.05) as cable:
        assert answers(b, a, 5.0)
        for peer, is_slow in ((b, True), (c, False)):
            with contextlib.ExitStack() as stack:
                with a.inside():
                    listener = stack.enter_context(socket.create_server((a.address, 0)))
                with peer.inside():
                    here = stack.enter_context(
                        socket.create_connection(listener.getsockname(), 20.0)
                    )
                there = stack.enter_context(listener.accept()[0])
                ways = [one_way_each(here, there) for _ in range(10)]
                out, back = min(out for out, _ in ways), min(back for _, back in ways)
                (connection,) = peer.connections()
                if is_slow:
                    assert 0.03 <= out < 0.033
                    assert 0.05 <= back < 0.055
                    assert 80_000 <= connection.min_rtt_us < 88_000
                    cable.delay_s = cable.delay_back_s = 0.02
                    ways = [one_way_each(here, there) for _ in range(10)]
                    assert 0.02 <= min(out for out, _ in ways) < 0.022
                else:
                    assert out + back < 0.03
    wait_for("the quick cable to be back", lambda: answers(a, b), 20.0)


def one_way_each(here: socket.socket, there: socket.socket) -> tuple[float, float]:
    """Seconds for an octet from here to there, and for one back."""
    there.settimeout(20.0)
    start = time.monotonic()
    here.sendall(b"?")
    assert there.recv(1) == b"?"
    middle = time.monotonic()
    there.sendall(b"!")
    assert here.recv(1) == b"!"
    return middle - start, time.monotonic() - middle


def test_much_passes_a_slow_link_unharmed_also_when_it_is_cut_in_between(hosts: Hosts) -> None:
    a, b, _ = hosts
    octets = np.random.default_rng(1).bytes(2_000_000)
    with contextlib.ExitStack() as stack:
        stack.enter_context(b.slow_link(0.01))
        with b.inside():
            listener = stack.enter_context(socket.create_server((b.address, 0)))
        with a.inside():
            here = stack.enter_context(socket.create_connection(listener.getsockname(), 20.0))
        there = stack.enter_context(listener.accept()[0])
        there.settimeout(30.0)
        sender = threading.Thread(target=here.sendall, args=(octets,))
        sender.start()
        arrived = there.recv(1000)
        b.link_down()
        time.sleep(0.3)  # frames are lost meanwhile
        b.link_up()
        while len(arrived) < len(octets):
            arrived += there.recv(1 << 20)
        sender.join()
        assert arrived == octets


def test_sockets_of_a_context_made_inside_belong_to_the_host(hosts: Hosts) -> None:
    a, b, _ = hosts
    with contextlib.ExitStack() as stack:
        with b.inside():
            there: zmq.Context[zmq.Socket[bytes]] = stack.enter_context(zmq.Context())
            listener = stack.enter_context(there.socket(zmq.PULL))
            port = listener.bind_to_random_port(f"tcp://{b.address}")
        with a.inside():
            here: zmq.Context[zmq.Socket[bytes]] = stack.enter_context(zmq.Context())
            sender = stack.enter_context(here.socket(zmq.PUSH))
        sender.setsockopt(zmq.LINGER, 0)
        sender.connect(f"tcp://{b.address}:{port}")  # outside: the context's own thread connects
        sender.send(b"from a")
        assert listener.poll(10_000)
        assert listener.recv() == b"from a"
        assert [connection.peer for connection in a.connections()] == [f"{b.address}:{port}"]


def test_programs_run_in_their_host_with_their_environment_and_folder(
    hosts: Hosts, tmp_path: Path
) -> None:
    host = hosts["b"]
    program = (
        "import os, socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "s.connect(('10.77.0.1', 7)); print(s.getsockname()[0], os.environ['WHO'], os.getcwd())"
    )
    args = [host.python, "-c", program]
    finished = host.run(args, env={"WHO": "me"}, cwd=tmp_path)
    assert finished.stdout.split() == [host.address, "me", str(tmp_path)]
    output = tmp_path / "output.txt"
    assert host.popen(args, env={"WHO": "you"}, output=output).wait(20) == 0
    assert output.read_text().split()[:2] == [host.address, "you"]


def test_a_program_that_fails_says_where_and_why(hosts: Hosts) -> None:
    failing = ["python3", "-c", "raise SystemExit('no such thing')"]
    with pytest.raises(AssertionError, match=r"b: .* ended with 1: no such thing"):
        hosts["b"].run(failing)
    assert hosts["b"].run(failing, check=False).returncode == 1


def test_signals_reach_everything_in_a_host_and_nothing_elsewhere(hosts: Hosts) -> None:
    a, b, _ = hosts
    orphan = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP_FOREVER!r}],"
        "start_new_session=True)"
    )
    a.popen([a.python, "-c", orphan]).wait(20)
    child = a.popen([a.python, "-c", SLEEP_FOREVER])
    other = b.popen([b.python, "-c", SLEEP_FOREVER])
    assert len(a.pids()) == 2
    assert child.pid in a.pids()
    assert os.getpgid(child.pid) == child.pid
    a.kill_all(signal.SIGSTOP)
    wait_for("both to stop", lambda: [state_of(pid) for pid in a.pids()] == ["T", "T"])
    a.kill_all()
    assert a.pids() == []
    assert child.poll() == -signal.SIGKILL
    assert other.poll() is None


def test_a_program_is_in_its_host_from_its_birth(hosts: Hosts) -> None:
    host = hosts["a"]
    for _ in range(20):
        child = host.popen([host.python, "-c", SLEEP_FOREVER])
        host.kill_all()
        assert child.returncode == -signal.SIGKILL


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_nothing_is_left_behind_when_a_test_fails_in_the_middle() -> None:
    created: list[Host] = []
    children: list[subprocess.Popen[str]] = []

    def failing_test() -> None:
        with Hosts.create("a", "b") as hosts:
            created.extend(hosts)
            host = hosts["a"]
            children.append(host.popen([host.python, "-c", SLEEP_FOREVER]))
            children.append(host.popen([host.python, "-c", SLEEP_FOREVER], talk=True))
            host.kill_all(signal.SIGSTOP)
            hosts["b"].link_down()
            raise TestFailedError

    with pytest.raises(TestFailedError):
        failing_test()
    assert [child.poll() for child in children] == [-signal.SIGKILL, -signal.SIGKILL]
    left = os.listdir("/run/netns")
    assert not [name for name in left if name.startswith(f"murmuration-test-{os.getpid()}-")]
    assert not any(Path(f"/run/netns/{host.namespace}").exists() for host in created)


def test_hosts_of_several_tests_at_once_do_not_meet(hosts: Hosts) -> None:
    with Hosts.create("a", "b") as others:
        assert others["b"].address == hosts["b"].address
        before = hosts["b"].counters()
        assert answers(others["a"], others["b"], 5.0)
        assert hosts["b"].counters() == before
    assert answers(hosts["a"], hosts["b"], 5.0)


def test_what_a_killed_test_process_has_left_is_swept_up_by_the_next() -> None:
    namespaces.require_hosts()
    dies = (
        "import os, signal\n"
        "from tests.process.namespaces import Hosts\n"
        "with Hosts.create('a') as hosts:\n"
        f"    child = hosts['a'].popen([hosts['a'].python, '-c', {SLEEP_FOREVER!r}])\n"
        "    print(hosts['a'].namespace, child.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", dies], capture_output=True, text=True, check=False, timeout=50
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    namespace, pid = killed.stdout.split()
    assert Path(f"/run/netns/{namespace}").exists()
    with Hosts.create("a"):
        assert not Path(f"/run/netns/{namespace}").exists()
    wait_for("the orphan to be gone", lambda: not is_alive(int(pid)), 10.0)


def is_alive(pid: int) -> bool:
    try:
        return state_of(pid) != "Z"
    except FileNotFoundError:
        return False


def test_where_there_is_no_root_the_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    namespaces.skip_reason.cache_clear()
    try:
        assert namespaces.skip_reason() == "making network namespaces needs root"
        with pytest.raises(pytest.skip.Exception, match="needs root"), Hosts.create("a"):
            pass
    finally:
        monkeypatch.undo()
        namespaces.skip_reason.cache_clear()
