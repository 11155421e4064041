"""Signals that ask a process to end: from a terminal, a batch system or a person.

Each of them would end a process on the spot. A command catches all of them and ends in good order,
with its summary and checkpoint. Its children ignore all but SIGTERM, because a terminal sends
Ctrl-C, Ctrl-\\ and SIGHUP to everybody at once: they end when the command tells them to.
"""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS: tuple[signal.Signals, ...] = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGXCPU,
    signal.SIGIO,
    signal.SIGPWR,
)
FOR_THE_COMMAND = tuple(number for number in STOP_SIGNALS if number != signal.SIGTERM)
"""Those that children leave to the command that has started them."""

Handler = Callable[[int, FrameType | None], None]


_handlers: list[Handler] = []
"""Of `handled_by`, the innermost last."""


def heeded() -> tuple[signal.Signals, ...]:
    """Signals that end this process: not those that it has inherited as ignored (nohup), nor those
    that somebody else handles.

    A shell has a background job ignore SIGINT as well; somebody sends it on purpose.
    """
    return tuple(
        number
        for number in STOP_SIGNALS
        if number in (signal.SIGINT, signal.SIGTERM)
        or (handler := signal.getsignal(number)) is signal.SIG_DFL
        or handler in _handlers
    )


@contextmanager
def handled_by(handler: Handler) -> Generator[None]:
    """Within, call `handler` for every signal that would end this process."""
    before = {number: signal.getsignal(number) for number in heeded()}
    _handlers.append(handler)
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
        _handlers.remove(handler)


@contextmanager
def blocked() -> Generator[None]:
    """Within, these signals wait; processes that are started meanwhile begin with them blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_COMMAND)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_the_command() -> None:
    """Ignore what the command deals with: the first thing that a child does."""
    for number in FOR_THE_COMMAND:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_THE_COMMAND)
