"""The floor: forked processes that move the packets of a run of ours over ZeroMQ, and nothing else.

    world: ROUTER ⇄ agents: DEALER              observation out, action in, lock-step
    agent i: DEALER -> agent (i + 2^k): ROUTER  message; the beacon comes back on the connection

Same topology, same number of packets of the same sizes, a numpy policy of the same sizes. No
environment, telemetry, encoding, checking, dead agents, restarts or deadlines. An agent wakes for
its observation, and then only for packets that its step waits for.
"""

import json
import resource
import struct
import tempfile
import time
from multiprocessing.process import BaseProcess

import numpy as np
import zmq

from runtime.net import latency, topology
from tests.benchmarks.case import Figures, serve
from tests.benchmarks.forked import forked, raise_open_files
from tests.benchmarks.plain_policy import FloatArray, PlainPolicy
from tests.benchmarks.process_cost import mean_pss_mb
from tests.benchmarks.turns import turns_of
from tests.benchmarks.workload import PERIOD, Workload

Socket = zmq.Socket[bytes]

_HEADER = struct.Struct("<iHq")
"""Tick, sender, sender's monotonic clock; the rest of a packet is payload."""
_STOP = -1
_SAMPLED = 4
"""Latency is read off the messages of every so many ticks: the floor does not pay for telemetry."""
_START_S = 120.0


def measure(work: Workload) -> Figures:
    """Steps a second, cpu per agent-step, packets and bytes sent, latency of a message."""
    raise_open_files(8 * work.agents + 200)
    with tempfile.TemporaryDirectory(prefix="bare-") as folder:
        began_s = time.monotonic()
        arguments = [(work, agent, folder) for agent in range(work.agents)]
        with (
            forked(_agent, arguments) as processes,
            zmq.Context() as context,
            context.socket(zmq.ROUTER) as world,
        ):
            world.setsockopt(zmq.BACKLOG, 4096)
            world.bind(f"ipc://{folder}/world")
            return _play(work, world, processes, began_s)


def _play(work: Workload, world: Socket, processes: list[BaseProcess], began_s: float) -> Figures:
    names = _await_ready(work, world)
    start_s = time.monotonic() - began_s
    padding = bytes(max(work.observation_bytes - _HEADER.size, 0))
    turns = turns_of(work.seconds, work.turns)
    tick = 0
    while turns.may_tick():
        frame = _HEADER.pack(tick, 0, 0) + padding
        for name in names:
            world.send_multipart((name, frame))
        for _ in names:
            world.recv_multipart()
        tick += 1
    pss_mb = mean_pss_mb(process.pid for process in processes if process.pid)
    for name in names:
        world.send_multipart((name, _HEADER.pack(_STOP, 0, 0)))
    reports = [json.loads(world.recv_multipart()[1]) for _ in names]
    agent_ticks = tick * work.agents

    def total(name: str) -> float:
        return sum(report[name] for report in reports)

    histogram = np.array([report["latency"] for report in reports], np.uint64).sum(axis=0)
    known = bool(histogram.sum())
    return {
        "start_s": start_s,
        "pss_mb": pss_mb,
        "ticks": float(tick),
        "steps_per_s": tick * work.copies / turns.total.wall_s,
        "cpu_us_per_agent_step": 1e6 * total("cpu_s") / (agent_ticks * work.copies),
        "messages_per_agent_tick": total("messages") / agent_ticks,
        "beacons_per_agent_tick": total("beacons") / agent_ticks,
        # The packets of the last tick are sent and no longer waited for.
        "heard_per_agent_tick": total("heard") / (agent_ticks - work.agents),
        "edge_payload_bytes_per_agent_step": total("edge_bytes") / (agent_ticks * work.copies),
        "latency_p50_us": latency.quantile_ns(histogram, 0.50) / 1e3 if known else None,
        "latency_p99_us": latency.quantile_ns(histogram, 0.99) / 1e3 if known else None,
    }


def _await_ready(work: Workload, world: Socket) -> list[bytes]:
    names: list[bytes] = []
    while len(names) < work.agents:
        if not world.poll(int(1000 * _START_S)):
            raise TimeoutError(f"{len(names)} of {work.agents} agents are ready")
        names.append(world.recv_multipart()[0])
    return names


def _agent(work: Workload, agent: int, folder: str) -> None:
    with zmq.Context() as context:
        _Agent(work, agent, folder, context).serve()


class _Agent:
    """One forked process; arrays lead with offsets, then copies."""

    def __init__(
        self, work: Workload, agent: int, folder: str, context: zmq.Context[Socket]
    ) -> None:
        self._work, self._agent = work, agent
        self._policy = PlainPolicy(work, agent)
        in_peers = topology.in_neighbours(agent, work.agents)
        self._offset_of_in = {peer: k for k, peer in enumerate(in_peers)}
        self._names = [b"%d" % peer for peer in in_peers]
        self._inbox = context.socket(zmq.ROUTER)
        self._inbox.setsockopt(zmq.BACKLOG, 4096)
        self._inbox.bind(f"ipc://{folder}/{agent}")
        peers = topology.out_neighbours(agent, work.agents)
        self._outs = [self._dealer(context, f"ipc://{folder}/{peer}") for peer in peers]
        self._world = self._dealer(context, f"ipc://{folder}/world")
        self._peers = zmq.Poller()
        for socket in (self._inbox, *self._outs):
            self._peers.register(socket, zmq.POLLIN)

        ticks = range(PERIOD)
        self._message_edges = [work.message_edges(agent, tick) for tick in ticks]
        self._beacon_edges = [work.beacon_edges(agent, tick) for tick in ticks]
        self._expected = [
            len(work.heard_messages(agent, tick)) + len(work.heard_beacons(agent, tick))
            for tick in ticks
        ]
        self._arrived: dict[int, int] = {}
        """Packets by the tick that they are of."""
        shape = work.offsets, work.copies
        self._messages: FloatArray = np.zeros((*shape, work.message), np.float32)
        self._beacons: FloatArray = np.zeros((*shape, work.beacon), np.float32)
        self._observation: FloatArray = np.zeros((work.copies, work.observation_dim), np.float32)
        self._latency = [0] * latency.BINS
        self._counts = {"messages": 0, "beacons": 0, "edge_bytes": 0, "heard": 0}

    def _dealer(self, context: zmq.Context[Socket], endpoint: str) -> Socket:
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.ROUTING_ID, b"%d" % self._agent)
        socket.connect(endpoint)
        return socket

    def serve(self) -> None:
        self._open_edges()
        self._world.send(b"ready")
        began_s = _cpu_s()
        while (tick := _HEADER.unpack_from(self._world.recv())[0]) != _STOP:
            self._await_peers(tick - 1)
            self._step(tick)
        report = {"cpu_s": _cpu_s() - began_s, "latency": self._latency, **self._counts}
        self._world.send(json.dumps(report).encode())
        for socket in (*self._outs, self._inbox, self._world):
            socket.close(linger=1000)

    def _open_edges(self) -> None:
        """Every in-neighbour must be known by name before a beacon can go back to it."""
        for socket in self._outs:
            socket.send(b"")
        greeted: set[bytes] = set()
        while len(greeted) < len(self._names):
            greeted.add(self._inbox.recv_multipart()[0])

    def _await_peers(self, tick: int) -> None:
        if tick < 0:
            return
        while self._arrived.get(tick, 0) < self._expected[tick % PERIOD]:
            for socket, _ in self._peers.poll():
                if socket is self._inbox:
                    self._take_messages()
                else:
                    self._take_beacons(self._outs.index(socket), socket)
        self._counts["heard"] += self._arrived.pop(tick, 0)

    def _take_messages(self) -> None:
        while True:
            try:
                _, frame = self._inbox.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            tick, sender, sent_ns = _HEADER.unpack_from(frame)
            if tick % _SAMPLED == 1:
                self._latency[latency.bin_of(time.monotonic_ns() - sent_ns)] += 1
            _fill(self._messages[self._offset_of_in[sender]], frame, np.float16)
            self._arrived[tick] = self._arrived.get(tick, 0) + 1

    def _take_beacons(self, k: int, socket: Socket) -> None:
        while True:
            try:
                frame = socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            _fill(self._beacons[k], frame, np.int8)
            tick = _HEADER.unpack_from(frame)[0]
            self._arrived[tick] = self._arrived.get(tick, 0) + 1

    def _step(self, tick: int) -> None:
        work, counts = self._work, self._counts
        _, message_EM, beacon_EZ = self._policy.step(
            self._observation, self._messages, self._beacons
        )
        header = _HEADER.pack(tick, self._agent, time.monotonic_ns())
        # Sizes are the mean of ours, where copies whose edge is closed leave their rows out.
        edges = self._message_edges[tick % PERIOD]
        if edges:
            frame = _sized(header + message_EM.astype(np.float16).tobytes(), work.message_bytes)
            for k in edges:
                self._outs[k].send(frame)
            counts["messages"] += len(edges)
            counts["edge_bytes"] += len(edges) * len(frame)
        edges = self._beacon_edges[tick % PERIOD]
        if edges:
            rows = (127.0 * beacon_EZ).astype(np.int8).tobytes()
            frame = _sized(header + rows, work.beacon_bytes)
            for k in edges:
                self._inbox.send_multipart((self._names[k], frame))
            counts["beacons"] += len(edges)
            counts["edge_bytes"] += len(edges) * len(frame)
        self._world.send(_sized(header, work.action_bytes))


def _cpu_s() -> float:
    """Of this process, ZeroMQ's threads included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _sized(frame: bytes, size_bytes: int) -> bytes:
    """Cut or padded, but never without its header."""
    size_bytes = max(size_bytes, _HEADER.size)
    return frame[:size_bytes].ljust(size_bytes, b"\0")


def _fill(rows: FloatArray, frame: bytes, dtype: type[np.float16 | np.int8]) -> None:
    """As many numbers of a frame as there are and fit."""
    width = np.dtype(dtype).itemsize
    count = min((len(frame) - _HEADER.size) // width, rows.size)
    rows.reshape(-1)[:count] = np.frombuffer(frame, dtype, count, _HEADER.size)


if __name__ == "__main__":
    serve(Workload, measure)
