"""The launcher's children: world, learner and this host's node, and when each was heard last."""

import logging
import time
from multiprocessing.process import BaseProcess

import zmq

from configs.schema import RunConfig
from runtime.run.conductor import Role

logger = logging.getLogger(__name__)


class Children:
    """Processes by role. A child that hangs is treated like one that has died, once it is dead."""

    def __init__(self, config: RunConfig, poller: zmq.Poller) -> None:
        """Watch children; the poller wakes when one ends."""
        self._start_patience_s = config.start_patience_s
        self._silent_timeout_s = config.runtime.silent_timeout_s
        self._poller = poller
        self._processes: dict[Role, BaseProcess] = {}
        self._started_s: dict[Role, float] = {}
        self._heard_s: dict[Role, float] = {}
        """When each child spoke last; none before its first word."""
        self._hung: set[Role] = set()
        """Children that were killed for their silence."""

    def __contains__(self, role: Role) -> bool:
        return role in self._processes

    def __len__(self) -> int:
        return len(self._processes)

    @property
    def processes(self) -> dict[Role, BaseProcess]:
        return dict(self._processes)

    def adopt(self, role: Role, process: BaseProcess) -> None:
        self._processes[role] = process
        self._started_s[role] = time.monotonic()
        self._poller.register(process.sentinel, zmq.POLLIN)

    def heard(self, role: str, now_s: float) -> None:
        """A child has spoken."""
        if role in self._processes:
            self._heard_s[role] = now_s

    def has_spoken(self, role: Role) -> bool:
        return role in self._heard_s

    def forgive(self, now_s: float) -> None:
        """We could not listen until now: silence so far proves nothing."""
        self._heard_s = dict.fromkeys(self._heard_s, now_s)
        self._started_s = dict.fromkeys(self._started_s, now_s)

    def ended(self, ready: set[object]) -> list[Role]:
        """Children that have ended, by what the poller says or by a look at them."""
        return [
            role
            for role, process in self._processes.items()
            if process.sentinel in ready or not process.is_alive()
        ]

    def remove(self, role: Role) -> BaseProcess:
        """Take leave of a child that has ended."""
        process = self._processes.pop(role)
        self._poller.unregister(process.sentinel)
        process.join()
        return process

    def forget(self, role: Role) -> bool:
        """Forget what was heard of a child that is gone; whether it had been killed for its
        silence.
        """
        self._heard_s.pop(role, None)
        is_hung = role in self._hung
        self._hung.discard(role)
        return is_hung

    def end_silent(self, now_s: float) -> None:
        """Kill children that hang.

        One that has said nothing yet has as long as a start may take.
        """
        for role, process in self._processes.items():
            heard_s = self._heard_s.get(role)
            limit_s = self._start_patience_s if heard_s is None else self._silent_timeout_s
            if now_s - (self._started_s[role] if heard_s is None else heard_s) > limit_s:
                self._heard_s[role] = now_s
                self._hung.add(role)
                process.kill()
                logger.error("the %s process has been silent for %.0f s: killed", role, limit_s)
