"""What every process of ours asks of the kernel first: open files, and no secrets in core dumps.

    main of a process -> begin_process(keyed=…) -> everything else

Limits are inherited, so a launcher's would do for its children. Each process sets its own all the
same: somebody may have changed those of a single one, and an agent is forked by a server that runs
since the beginning.
"""

import contextlib
import ctypes
import resource

_PR_SET_DUMPABLE = 4


def begin_process(*, keyed: bool) -> None:
    """Call it once, first thing in a process, before it starts threads, children or sockets.

    Args:
        keyed: whether secret keys will be in the memory of this process.
    """
    raise_open_files()
    if keyed:
        forbid_core_dumps()


def raise_open_files() -> None:
    """Raise the soft limit of open files to the hard one.

    Connections of strangers take descriptors until they are cut off; a soft limit of 1024 would
    leave none for logs, sockets and children.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # A sandbox may forbid it; whether what is left is enough, runtime/host/preflight.py says.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def forbid_core_dumps() -> None:
    """Keep the memory of this process, and of those forked from it, out of files.

    A limit of 0 does for core files. Where the kernel pipes dumps to a program (systemd-coredump)
    it ignores that limit, so the process becomes undumpable as well. Then other processes of the
    same user cannot trace it or read its memory either, unless they are privileged.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
