"""How the learner's process ends: told to stop, SIGTERM, or the launcher is gone.

SIGTERM becomes an exception (`Stopped`) where nothing is left half done.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import parent_process

_PARENT_GONE_GRACE_S = 10.0
"""Seconds to save what there is once the launcher is gone."""


class Stopped(Exception):
    """Told to stop, by the launcher or by SIGTERM; or the launcher is gone."""


@dataclass(slots=True)
class Termination:
    """SIGTERM, turned into an exception where nothing is left half done."""

    asked: bool = False
    _interruptible: bool = False

    def handle(self, *_: object) -> None:
        self.asked = True
        if self._interruptible:
            self._interruptible = False
            raise Stopped("SIGTERM")

    @contextmanager
    def allowed(self) -> Generator[None]:
        """Within, SIGTERM ends things at once; outside, at the next `check`."""
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self._interruptible = False

    def check(self) -> None:
        """Raises Stopped if SIGTERM has come."""
        if self.asked:
            raise Stopped("SIGTERM")


def leave_with_parent() -> None:
    """When the launcher dies, save like on SIGTERM; whatever hangs then does not hang for long."""
    parent = parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        connection.wait([sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_PARENT_GONE_GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def leave_agent(termination: Termination) -> None:
    """End as torchrun's agent expects: a rank that returns waits until the agent has heard of it,
    and an agent that has sent SIGTERM does not listen any more.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if termination.asked:
        logging.shutdown()
        os._exit(0)  # SystemExit(0) would be taken for a return
