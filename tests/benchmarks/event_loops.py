"""Which event loop an agent's hot path should use: round trips over ipc, side by side in one run.

    python -m tests.benchmarks.event_loops

Two processes, DEALER to ROUTER and back, 155-byte packets (a float16 message of 64 numbers on the
wire). Each kind of loop runs at both ends; rounds of the kinds alternate, so that a drift of the
machine hits all alike.
"""

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Callable

import numpy as np
import uvloop
import zmq
import zmq.asyncio
from rich.console import Console
from rich.table import Table

PACKET = bytes(155)
TRIPS = 3000
ROUNDS = 5


def _blocking_echo(endpoint: str) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(endpoint)
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        for _ in range(TRIPS):
            poller.poll()
            peer, packet = socket.recv_multipart(zmq.NOBLOCK)
            socket.send(peer, zmq.SNDMORE)
            socket.send(packet)
        socket.close(linger=1000)


def _blocking_trips(endpoint: str) -> list[int]:
    laps: list[int] = []
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(endpoint)
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        for _ in range(TRIPS):
            began = time.monotonic_ns()
            socket.send(PACKET)
            poller.poll()
            socket.recv(zmq.NOBLOCK)
            laps.append(time.monotonic_ns() - began)
    return laps


async def _async_echo(endpoint: str) -> None:
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(endpoint)
        for _ in range(TRIPS):
            peer, packet = await socket.recv_multipart()
            await socket.send(peer, zmq.SNDMORE)
            await socket.send(packet)
        socket.close(linger=1000)


async def _async_trips(endpoint: str) -> list[int]:
    laps: list[int] = []
    with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(endpoint)
        for _ in range(TRIPS):
            began = time.monotonic_ns()
            await socket.send(PACKET)
            await socket.recv()
            laps.append(time.monotonic_ns() - began)
    return laps


def _asyncio_echo(endpoint: str) -> None:
    asyncio.run(_async_echo(endpoint))


def _asyncio_trips(endpoint: str) -> list[int]:
    return asyncio.run(_async_trips(endpoint))


def _uvloop_echo(endpoint: str) -> None:
    uvloop.run(_async_echo(endpoint))


def _uvloop_trips(endpoint: str) -> list[int]:
    return uvloop.run(_async_trips(endpoint))


LOOPS: dict[str, tuple[Callable[[str], None], Callable[[str], list[int]]]] = {
    "blocking poll": (_blocking_echo, _blocking_trips),
    "asyncio": (_asyncio_echo, _asyncio_trips),
    "asyncio + uvloop": (_uvloop_echo, _uvloop_trips),
}


def measure() -> dict[str, list[int]]:
    """Nanoseconds of every round trip by kind of loop."""
    laps: dict[str, list[int]] = {name: [] for name in LOOPS}
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(ROUNDS):
            for kind, (name, (echo, trips)) in enumerate(LOOPS.items()):
                endpoint = f"ipc://{folder}/{turn}-{kind}"
                process = spawn.Process(target=echo, args=(endpoint,))
                process.start()
                laps[name] += trips(endpoint)[TRIPS // 10 :]  # the start-up of the other process
                process.join()
    return laps


def main() -> None:
    table = Table("event loop", "p50 µs", "p99 µs", "against blocking poll")
    laps = measure()
    reference = float(np.median(laps["blocking poll"]))
    for name, values in laps.items():
        p50, p99 = np.percentile(values, (50, 99)) / 1e3
        table.add_row(name, f"{p50:.0f}", f"{p99:.0f}", f"{p50 * 1e3 / reference:.1f} ×")
    Console().print(table)


if __name__ == "__main__":
    main()
