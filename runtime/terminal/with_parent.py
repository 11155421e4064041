"""Commands that end with the process that has started them, however that ends."""

import os
import signal
import sys
from collections.abc import Sequence

# Between fork and exec nothing of ours may run: the parent may have threads. So a process asks for
# its own end and then becomes the command; what it asked for outlasts that. It heeds all signals: a
# parent may have blocked some for itself, as Ray does with SIGINT.
_ASK = (
    "import ctypes, os, signal, sys;"
    "signal.pthread_sigmask(signal.SIG_SETMASK, ());"
    "ctypes.CDLL(None).prctl(1, int(sys.argv[1]));"  # PR_SET_PDEATHSIG
    "os.getppid() == int(sys.argv[2]) or sys.exit(1);"
    "os.execv(sys.executable, [sys.executable, *sys.argv[3:]])"
)


def python_with_us(number: signal.Signals, arguments: Sequence[str]) -> list[str]:
    """A command line for `python arguments`, which gets this signal when we have ended."""
    return [sys.executable, "-c", _ASK, f"{number.value}", f"{os.getpid()}", *arguments]
