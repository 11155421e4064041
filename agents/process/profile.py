"""Where an agent's time goes: the cpu time of its thread by section, measured only when asked for.

    runtime.profile -> Profile.install -> entry points of the sections are wrapped
    begin (ready) ... the run ... figures (stop) -> logs/profile-17.json

Wrapping happens once, in a process of its own and before anything else: without it the hot path
does not know that this file exists. With it every entry and exit of a section costs a system call,
about a tenth of a step, so read the shares and take the rate from a run without.
"""

import functools
import inspect
import json
import resource
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, cast

import zmq

from agents.core import AgentCore
from agents.process.edges import Edges
from runtime.net.transport import Channel, Hub

COMPUTE, SENDING, RECEIVING, WAITING, SHELL = "compute", "sending", "receiving", "waiting", "shell"
SECTIONS: tuple[str, ...] = (COMPUTE, SENDING, RECEIVING, WAITING, SHELL)
"""shell: whatever the others leave, the loop that calls them."""

POINTS: tuple[tuple[type, str, str], ...] = (
    (AgentCore, "handle", COMPUTE),
    (Edges, "send_message", SENDING),
    (Edges, "send_beacon", SENDING),
    (Channel, "send", SENDING),
    (Channel, "send_frame", SENDING),
    (Hub, "send_frame", SENDING),
    (Edges, "take_messages", RECEIVING),
    (Edges, "take_message", RECEIVING),
    (Edges, "drain_beacons", RECEIVING),
    (Edges, "take_message", RECEIVING),
    (Edges, "take_beacon", RECEIVING),
    (Channel, "drain", RECEIVING),
    (Channel, "take", RECEIVING),
    (Hub, "drain", RECEIVING),
    (Hub, "take", RECEIVING),
    (Hub, "take", RECEIVING),
    (zmq.Poller, "poll", WAITING),
)
"""Where each section begins; one within another interrupts it."""


class Profile:
    """Cpu time of one thread, cut into sections that do not overlap."""

    def __init__(self, cpu_ns: Callable[[], int] = time.thread_time_ns) -> None:
        self._cpu_ns = cpu_ns
        self._totals_ns = _zeros()
        self._stack: list[str] = []
        self._section = SHELL
        self._since_ns = cpu_ns()
        self._began: dict[str, float] = {}

    @classmethod
    def install(cls) -> "Profile":
        """Wrap the entry points of this very process, for good."""
        profile = cls()
        for owner, name, section in POINTS:
            setattr(owner, name, profile.wrapped(getattr(owner, name), section))
        return profile

    def wrapped(self, function: Callable[..., Any], section: str) -> Callable[..., Any]:
        """The same function, whose time counts under a section; of a generator, the time that it
        takes to come up with each item.
        """
        if inspect.isgeneratorfunction(function):
            return self._wrapped_generator(function, section)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._section == section:
                return function(*args, **kwargs)
            self.enter(section)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return timed

    def _wrapped_generator(self, function: Callable[..., Any], section: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Generator[Any]:
            items = cast("Generator[Any]", function(*args, **kwargs))
            while True:
                self.enter(section)
                try:
                    item = next(items)
                except StopIteration:
                    return
                finally:
                    self.leave()
                yield item

        return timed

    def enter(self, section: str) -> None:
        self._switch(section, push=True)

    def leave(self) -> None:
        self._switch(self._stack[-1], push=False)

    def _switch(self, section: str, *, push: bool) -> None:
        now_ns = self._cpu_ns()
        self._totals_ns[self._section] += now_ns - self._since_ns
        self._since_ns = now_ns
        if push:
            self._stack.append(self._section)
        else:
            self._stack.pop()
        self._section = section

    def begin(self) -> None:
        """Forget what has been measured so far: the start is over, the run begins."""
        self._totals_ns = _zeros()
        self._since_ns = self._cpu_ns()
        self._began = _readings()

    def figures(self) -> dict[str, float]:
        """Seconds since `begin`: `cpu_SECTION_s` of this thread (they add up to `thread_cpu_s`),
        `process_cpu_s` with ZeroMQ's I/O thread, `wall_s`, and `wake_ups`, times that the process
        has gone to sleep.
        """
        self._switch(self._section, push=True)
        self._stack.pop()
        now = _readings()
        figures = {name: value - self._began.get(name, 0.0) for name, value in now.items()}
        sections = {f"cpu_{name}_s": ns / 1e9 for name, ns in self._totals_ns.items()}
        return {**sections, "thread_cpu_s": sum(self._totals_ns.values()) / 1e9, **figures}


def _zeros() -> dict[str, int]:
    return dict.fromkeys(SECTIONS, 0)


def profile_path(logs: Path, agent: int) -> Path:
    """Where an agent's figures are after the run."""
    return logs / f"profile-{agent}.json"


def write(path: Path, figures: dict[str, float]) -> None:
    path.write_text(json.dumps(figures))


def _readings() -> dict[str, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall_s": time.monotonic(),
        "process_cpu_s": usage.ru_utime + usage.ru_stime,
        "wake_ups": float(usage.ru_nvcsw),
    }
