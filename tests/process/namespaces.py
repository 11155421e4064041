"""Hosts for tests: network namespaces, each with an address of its own, on one bridge.

    host "a"              the wire (a namespace without processes)            host "b"
    eth0 10.77.0.1  ◀─ veth pair ─▶  port0 ── bridge ── port1  ◀─ veth pair ─▶  eth0 10.77.0.2

Nothing of the machine's own network is touched: every interface is made inside a namespace, the
bridge too, so the addresses may be the same in every test that runs at the same time. A host shares
files, processes and clocks with the machine; only its network is its own.

Interface counters count Ethernet frames (14 octets of header, none of preamble or checksum). A veth
would take segments of up to 64 KiB from tcp as one "packet" and so hide most headers; segmentation
offload is switched off on both ends of every pair, hence a frame here is what a cable would carry,
at most 1514 octets. IPv6 and the bridge's multicast snooping are off, so the wire is silent except
for what hosts send and the ARP frames (42 octets each) that precede it.
"""

import array
import contextlib
import ctypes
import fcntl
import functools
import itertools
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.net.tcp_info import TcpConnection
from tests.process.slow_cable import SlowCable

_PREFIX = "murmuration-test"
_serials = itertools.count()

_CLONE_NEWNET = 0x40000000
_SIOCETHTOOL = 0x8946
_OFFLOADS = {"tso": (0x1E, 0x1F), "gso": (0x23, 0x24), "gro": (0x2B, 0x2C), "tx": (0x16, 0x17)}
"""Commands of linux/ethtool.h that read and set each; the ethtool program may not be there. (tx:
checksums, which a frame that passes a packet socket must have.)"""

_NAMES = Path("/etc/netns")
"""Where `ip netns exec` looks for files of a namespace's own."""

_GONE_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Counters:
    """What has crossed a host's eth0, in Ethernet frames and their octets."""

    rx_bytes: int
    rx_packets: int
    tx_bytes: int
    tx_packets: int

    def __sub__(self, before: "Counters") -> "Counters":
        return Counters(
            self.rx_bytes - before.rx_bytes,
            self.rx_packets - before.rx_packets,
            self.tx_bytes - before.tx_bytes,
            self.tx_packets - before.tx_packets,
        )


class Host:
    """One namespace: start processes in it, watch it, pull its cable."""

    def __init__(self, name: str, address: str, namespace: str, wire: str, port: str) -> None:
        self.name = name
        self.address = address
        self.namespace = namespace
        self.python: str = sys.executable
        """What a test starts Python programs with; may be set to another environment's."""
        self._wire = wire
        self._port = port
        self._children: list[subprocess.Popen[str]] = []

    def popen(
        self,
        args: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        output: Path | None = None,
        talk: bool = False,
    ) -> subprocess.Popen[str]:
        """Start a program, in a session (and process group) of its own.

        Args:
            env: added to the environment of this process.
            output: where stdout and stderr go (appended); None: nowhere.
            talk: stdin and stdout are pipes, output gets stderr alone.
        """
        with contextlib.ExitStack() as files:
            sink = files.enter_context(output.open("a")) if output else subprocess.DEVNULL
            # Born inside, or kill_all might come before `ip` has entered and miss it.
            files.enter_context(self.inside())
            child = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *map(str, args)],
                stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talk else sink,
                stderr=sink,
                text=True,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self._children.append(child)
        return child

    def run(
        self,
        args: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; output is captured.

        Raises:
            AssertionError: it failed (unless check is off), with what it said.
            subprocess.TimeoutExpired: it took too long and has been killed.
        """
        finished = subprocess.run(
            ["ip", "netns", "exec", self.namespace, *map(str, args)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            timeout=timeout_s,
            check=False,
            start_new_session=True,
        )
        if check and finished.returncode != 0:
            said = finished.stdout + finished.stderr
            raise AssertionError(f"{self.name}: {args} ended with {finished.returncode}: {said}")
        return finished

    @contextlib.contextmanager
    def inside(self) -> Generator[None]:
        """The calling thread is in this host; so are sockets and threads that it makes meanwhile.

        For ZeroMQ: make the context and its first socket inside (that starts the thread that opens
        connections); both may be used anywhere afterwards.
        """
        with _inside(self.namespace):
            yield

    def pids(self) -> list[int]:
        """All processes whose network this is, whoever started them; zombies do not count."""
        return [int(pid) for pid in _ip("netns", "pids", self.namespace).split()]

    def kill_all(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to every process in the host; SIGKILL: until none is left."""
        deadline = time.monotonic() + _GONE_WITHIN_S
        while pids := self.pids():
            if os.getpid() in pids:
                raise AssertionError(f"{self.name}: a thread of this very process is inside")
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number != signal.SIGKILL:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: {pids} survive SIGKILL")
            time.sleep(0.005)  # their end has no event for us: most are not our children
        for child in self._children:
            child.wait(_GONE_WITHIN_S)

    def link_down(self) -> None:
        """Pull the cable: what the host sends is lost in silence, nothing tells its programs."""
        _ip("-n", self._wire, "link", "set", self._port, "down")

    def link_up(self) -> None:
        _ip("-n", self._wire, "link", "set", self._port, "up")

    def move_to(self, address: str) -> None:
        """Another address than before, as a pod has that starts anew."""
        ours = ("-n", self.namespace, "address")
        _ip(*ours, "delete", f"{self.address}/16", "dev", "eth0")
        _ip(*ours, "add", f"{address}/16", "dev", "eth0")
        self.address = address

    @contextlib.contextmanager
    def slow_link(self, delay_s: float, delay_back_s: float | None = None) -> Generator[SlowCable]:
        """Meanwhile all that leaves this host takes delay_s longer to anywhere, and back likewise.

        Both delays may be changed at the cable that this yields. The exchange of the cables, before
        and after, may cost frames that are under way; tcp sends them again.
        """
        stub = self._port.replace("port", "stub")
        in_wire = ("-n", self._wire, "link")
        back_s = delay_s if delay_back_s is None else delay_back_s
        with contextlib.ExitStack() as undo:
            _ip(*in_wire, "set", self._port, "nomaster")
            undo.callback(_ip, *in_wire, "set", self._port, "master", "bridge")
            _ip(*in_wire, "add", stub, "type", "veth", "peer", "name", f"{stub}-b")
            undo.callback(_ip, *in_wire, "delete", stub)
            with _inside(self._wire):
                _switch_offloads_off(stub)
                _switch_offloads_off(f"{stub}-b")
                cable = SlowCable(self._port, stub, delay_s, back_s)
            undo.callback(cable.close)
            _ip(*in_wire, "set", f"{stub}-b", "master", "bridge", "up")
            _ip(*in_wire, "set", stub, "up")
            yield cable

    def counters(self) -> Counters:
        (link,) = json.loads(_ip("-n", self.namespace, "-s", "-j", "link", "show", "dev", "eth0"))
        rx, tx = link["stats64"]["rx"], link["stats64"]["tx"]
        return Counters(rx["bytes"], rx["packets"], tx["bytes"], tx["packets"])

    def connections(self) -> list[TcpConnection]:
        """Every established tcp connection in the host, loopback too, as `ss` reads TCP_INFO."""
        lines = _command("ss", "-N", self.namespace, "-tniHO", "state", "established").splitlines()
        return [_connection(line) for line in lines]

    def close(self) -> None:
        """Kill what runs inside and take the namespace away."""
        try:
            self.kill_all()
        finally:
            for child in self._children:
                for pipe in (child.stdin, child.stdout):
                    if pipe:
                        with contextlib.suppress(BrokenPipeError):  # unsent lines to the dead
                            pipe.close()
            self._children.clear()
            shutil.rmtree(_NAMES / self.namespace, ignore_errors=True)
            _ip("netns", "delete", self.namespace)


class Hosts:
    """Several hosts on one wire; they go when the `with` block is left, whatever happened in it."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = {host.name: host for host in hosts}

    @classmethod
    @contextlib.contextmanager
    def create(cls, *names: str) -> Generator["Hosts"]:
        """Make the hosts "a" (10.77.0.1), "b" (10.77.0.2) and so on.

        Skips the running test, with the reason, where that cannot be done.

        Raises:
            AssertionError: something was left behind at the end.
        """
        require_hosts()
        _sweep()
        stem = f"{_PREFIX}-{os.getpid()}-{next(_serials)}"
        wire = f"{stem}-wire"
        with contextlib.ExitStack() as undo:
            undo.callback(_assert_nothing_left, stem)
            _make_wire(wire)
            undo.callback(_ip, "netns", "delete", wire)
            hosts: list[Host] = []
            for index, name in enumerate(names):
                namespace, port = f"{stem}-{name}", f"port{index}"
                host = Host(name, f"10.77.0.{index + 1}", namespace, wire, port)
                _ip("netns", "add", namespace)
                undo.callback(host.close)
                _plug_in(host, wire, port)
                hosts.append(host)
            yield cls(hosts)

    def publish(self, names: Mapping[str, str]) -> None:
        """Programs that are started from now on look up these DNS names, of hosts by theirs; those
        that run see what later calls change. `ip netns exec` puts the file in place of /etc/hosts.
        """
        text = "".join(f"{self[host].address} {name}\n" for host, name in names.items())
        for host in self:
            path = _NAMES / host.namespace / "hosts"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"127.0.0.1 localhost\n{text}")  # in its place: others have it mounted

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts.values())


def require_hosts() -> None:
    """Skip the running test, with the reason, where there can be no hosts."""
    reason = skip_reason()
    if reason is not None:
        pytest.skip(reason)


@functools.cache
def skip_reason() -> str | None:
    """Why this machine cannot make hosts; None if it can (it has just made and removed one)."""
    if not sys.platform.startswith("linux"):
        return "hosts for tests are Linux network namespaces"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    for program in ("ip", "ss"):
        if shutil.which(program) is None:
            return f"making network namespaces needs `{program}` (Debian package iproute2)"
    # Bare commands and not `Host`: a mistake of ours must fail tests, not skip them.
    trial = f"{_PREFIX}-{os.getpid()}-trial"
    try:
        _ip("netns", "add", trial)
        try:
            _ip("-n", trial, "link", "add", "bridge", "type", "bridge")
            _ip("-n", trial, "link", "add", "one", "type", "veth", "peer", "name", "other")
        finally:
            _ip("netns", "delete", trial)
    except (AssertionError, OSError) as error:
        return f"network namespaces do not work here: {error}"
    return None


def _make_wire(wire: str) -> None:
    _ip("netns", "add", wire)
    with _inside(wire):
        _switch_ipv6_off()
    _ip("-n", wire, "link", "add", "bridge", "type", "bridge", "mcast_snooping", "0")
    _ip("-n", wire, "link", "set", "bridge", "up")


def _plug_in(host: Host, wire: str, port: str) -> None:
    """Give a new namespace its loopback, its address and its cable to the bridge."""
    ours, theirs = ("-n", host.namespace), ("-n", wire)
    peer = ("peer", "name", "eth0", "netns", host.namespace)
    _ip(*theirs, "link", "add", port, "type", "veth", *peer)
    with host.inside():
        _switch_ipv6_off()
        _switch_offloads_off("eth0")
    with _inside(wire):
        _switch_offloads_off(port)
    _ip(*ours, "link", "set", "lo", "up")
    _ip(*ours, "address", "add", f"{host.address}/16", "dev", "eth0")
    _ip(*ours, "link", "set", "eth0", "up")
    _ip(*theirs, "link", "set", port, "master", "bridge", "up")


def _switch_ipv6_off() -> None:
    """Or the kernel would announce itself by multicast, at moments of its own."""
    for scope in ("all", "default"):
        switch = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
        if switch.exists():
            switch.write_text("1")


def _switch_offloads_off(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        for name, (read, write) in _OFFLOADS.items():
            _ethtool(end, interface, write, 0)
            if _ethtool(end, interface, read, 0):
                raise AssertionError(f"{interface}: {name} cannot be switched off")


def _ethtool(end: socket.socket, interface: str, command: int, value: int) -> int:
    """One request with a struct ethtool_value; what the kernel has written into it."""
    request = array.array("B", struct.pack("II", command, value))
    address, _ = request.buffer_info()
    fcntl.ioctl(end, _SIOCETHTOOL, struct.pack("16sP", interface.encode(), address))
    return struct.unpack("II", request.tobytes())[1]


@contextlib.contextmanager
def _inside(namespace: str) -> Generator[None]:
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        _enter(there)
        try:
            yield
        finally:
            _enter(back)
    finally:
        os.close(there)
        os.close(back)


def _enter(namespace: int) -> None:
    """os.setns, which Python has from 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _sweep() -> None:
    """Take away what test processes have left that were killed and could not do it."""
    for namespace in _namespaces():
        found = re.fullmatch(rf"{_PREFIX}-(\d+)-.*", namespace)
        if found and not Path(f"/proc/{found[1]}").exists():
            with contextlib.suppress(AssertionError):  # another test process is sweeping it too
                Host(namespace, "", namespace, "", "").close()


def _assert_nothing_left(stem: str) -> None:
    left = [namespace for namespace in _namespaces() if namespace.startswith(f"{stem}-")]
    if left:
        raise AssertionError(f"left behind: {left}")


def _namespaces() -> list[str]:
    folder = Path("/run/netns")
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


def _connection(line: str) -> TcpConnection:
    """One line of ss; what the kernel has counted as zero is not in it."""
    local, peer = line.split()[2:4]

    def count(name: str) -> int:
        found = re.search(rf"\b{name}:(\d+)", line)
        return int(found[1]) if found else 0

    def microseconds(name: str) -> int:
        found = re.search(rf"\b{name}:([\d.]+)", line)
        return round(float(found[1]) * 1000) if found else 0

    retransmitted = re.search(r"\bretrans:\d+/(\d+)", line)
    return TcpConnection(
        local=local,
        peer=peer,
        bytes_sent=count("bytes_sent") - count("bytes_retrans"),
        bytes_retransmitted=count("bytes_retrans"),
        bytes_received=count("bytes_received"),
        rtt_us=microseconds("rtt"),
        min_rtt_us=microseconds("minrtt"),
        retransmits=int(retransmitted[1]) if retransmitted else 0,
    )


def _ip(*args: str) -> str:
    return _command("ip", *args)


def _command(*args: str) -> str:
    """What a program printed.

    Raises:
        AssertionError: it failed, with what it said.
    """
    finished = subprocess.run(args, capture_output=True, text=True, check=False, timeout=20)
    if finished.returncode != 0:
        raise AssertionError(f"{' '.join(args)}: {finished.stderr.strip()}")
    return finished.stdout
