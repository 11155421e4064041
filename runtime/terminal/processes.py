"""Starting processes that know nothing of the one that starts them.

    target, setup -> Parcel -> Process.start -> _begin: signals, output, then target(setup)

No start waits for the child: it may be killed or stopped at any moment, and the process that starts
it learns of that by its sentinel.
"""

import io
import mmap
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing import reduction, resource_tracker
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import IO, Any, Protocol, cast

from runtime.net.inherited import Inherited
from runtime.terminal import output, stop_signals
from runtime.terminal.child_output import beside_the_view

# vfork suspends the parent until its child runs another program, and for ever if the child is
# stopped before; this switch is the documented way around it.
cast("Any", subprocess)._USE_VFORK = False


class _Context(Protocol):
    def Process(
        self, *, target: Callable[..., None], args: tuple[Any, ...], name: str
    ) -> BaseProcess: ...


class Parcel:
    """Plain data for a child process, in a file without a name that the child inherits.

    multiprocessing itself would write it into a pipe of which it holds both ends. A pipe takes
    64 KiB: a child that dies, or is stopped, before it has read a longer setup would block its
    parent for ever. What is Inherited within becomes a descriptor of the child's own.
    """

    def __init__(self, content: object) -> None:
        """Pack; `close` it once the child has been started.

        Raises:
            OSError: no descriptor or no memory is left.
        """
        self._descriptor = os.memfd_create("murmuration setup")
        with open(self._descriptor, "wb", closefd=False) as file:
            pickler = _Pickler(file, protocol=pickle.HIGHEST_PROTOCOL)
            pickler.dump(content)
        self._inherited = pickler.descriptors

    def open(self) -> Any:
        """What was packed: for the child, once."""
        # Mapped and not read: several children of torchrun's agent share one position in the file.
        with mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ) as packed:
            content = _Unpickler(io.BytesIO(packed), self._inherited).load()
        self.close()
        return content

    def close(self) -> None:
        """Give the parcel up, but none of the descriptors within."""
        os.close(self._descriptor)

    def __reduce__(self) -> tuple[Callable[..., "Parcel"], tuple[Any, ...]]:
        duplicate = cast("Any", reduction).DupFd
        inherited = [duplicate(descriptor) for descriptor in self._inherited]
        return _receive, (duplicate(self._descriptor), inherited)


class _Pickler(pickle.Pickler):
    def __init__(self, file: IO[bytes], protocol: int) -> None:
        super().__init__(file, protocol)
        self.descriptors: list[int] = []

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, Inherited):
            return None
        self.descriptors.append(obj.descriptor)
        return len(self.descriptors) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], descriptors: list[int]) -> None:
        super().__init__(file)
        self._descriptors = descriptors

    def persistent_load(self, pid: int) -> Inherited:
        return Inherited(self._descriptors[pid])


def _receive(descriptor: Any, inherited: list[Any]) -> Parcel:
    parcel = Parcel.__new__(Parcel)
    parcel._descriptor = descriptor.detach()  # pyright: ignore[reportPrivateUsage]  # its own class
    parcel._inherited = [one.detach() for one in inherited]  # pyright: ignore[reportPrivateUsage]
    return parcel


def _begin(parcel: Parcel) -> None:
    """The first steps of every child, which begins with these signals blocked."""
    stop_signals.leave_to_the_command()
    output.install(ends_with_reader=False)
    target, setup = parcel.open()
    target(setup)


@contextmanager
def _environment(variables: dict[str, str]) -> Generator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def bare_main() -> Generator[None]:
    """Hide __main__: multiprocessing would import it again in every child."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


ONE_THREAD: dict[str, str] = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""Environment of processes that are many: one BLAS thread each."""


def start_process(
    context: BaseContext,
    target: Callable[..., None],
    setup: object,
    name: str,
    environment: dict[str, str] | None = None,
) -> BaseProcess:
    """Start `target(setup)` as a process of its own; `setup` must be plain data.

    Raises:
        OSError, EOFError: the machine has no room for it, or the forkserver has died; nothing was
            started, and trying again may help.
    """
    with _environment(environment or {}), bare_main():
        return start_bare(context, target, setup, name)


def start_bare(
    context: BaseContext, target: Callable[..., None], setup: object, name: str
) -> BaseProcess:
    """`start_process` for a caller that has hidden __main__ and may start others in threads."""
    parcel = Parcel((target, setup))
    try:
        with stop_signals.blocked():
            # By itself and first: when it starts the tracker, it unblocks SIGINT in this thread.
            resource_tracker.ensure_running()
        with stop_signals.blocked(), beside_the_view():
            process = cast("_Context", context).Process(target=_begin, args=(parcel,), name=name)
            process.start()
    finally:
        parcel.close()
    return process


def spawn(
    target: Callable[..., None], setup: object, name: str, environment: dict[str, str] | None = None
) -> BaseProcess:
    """Start `target(setup)` in a fresh interpreter, for processes that are few.

    Raises:
        OSError: the machine has no room for it.
    """
    context = multiprocessing.get_context("spawn")
    return start_process(context, target, setup, name, environment)
