"""Recordings by CUDA graphs (learner/captured.py).

    warm-up on a side stream, twice -> capture -> replay

The first warm-up makes what is made once: tables, work spaces, choices of algorithms. The second
notes which tensors come from outside the function. A graph knows no more of them than their
address, so they are kept for as long as the graph: a table that its cache has let go of would
otherwise be another's memory.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves  # pyright: ignore[reportUnknownVariableType]  # untyped

from learner.captured import Worked


class CudaRecorder:
    """Records on the current device; recordings share their scratch memory, since none of them
    runs beside another.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def record(
        self, work: Callable[[], Worked], generator: torch.Generator
    ) -> Callable[[], Worked]:
        """See `learner.captured.Recorder`."""
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            work()
            kept = outsiders(work)
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(generator)  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        # Meanwhile another thread may gather the next batch, and ask for pinned memory.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            worked = work()
        return _Replay(graph, worked, kept)


class _Replay:
    def __init__(self, graph: torch.cuda.CUDAGraph, worked: Worked, kept: list[Tensor]) -> None:
        self._graph = graph
        self._worked = worked
        self._kept = kept

    def __call__(self) -> Worked:
        self._graph.replay()
        return self._worked


def outsiders(work: Callable[[], object]) -> list[Tensor]:
    """Call a function; the tensors that it has read or written and not made."""
    with _Outsiders() as seen:
        work()
    return list(seen.kept.values())


class _Outsiders(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        self.kept: dict[int, Tensor] = {}
        self._made: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        for x in _tensors((args, kwargs)):
            if (place := _storage(x)) not in self._made:
                self.kept.setdefault(place, x.detach())
        result = func(*args, **kwargs)
        self._made.update(map(_storage, _tensors(result)))
        return result


def _tensors(tree: Any) -> list[Tensor]:
    leaves: list[Any] = tree_leaves(tree)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]  # its identity
