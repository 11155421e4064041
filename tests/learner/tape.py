"""A recorder for a CPU that repeats what a CUDA graph repeats: operations, addresses, numbers.

Each operation is written down with its arguments and its results. To replay is to run them in
order, each result copied to where it lay at first. A number that Python had read off a schedule
stays what it was, a tensor that was made outside is read anew, and generators draw on: the
mistakes that a recording can hold show as they would on a GPU.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves  # pyright: ignore[reportUnknownVariableType]  # untyped

from learner.captured import Worked

LOOKS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal"}


class TapeRecorder:
    """Counts what it records and replays."""

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def record(
        self, work: Callable[[], Worked], generator: torch.Generator
    ) -> Callable[[], Worked]:
        """See `learner.captured.Recorder`."""
        with _Tape() as tape:
            worked = work()
        self.recorded += 1

        def replay() -> Worked:
            self.replayed += 1
            tape.play()
            return worked

        return replay


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        self._calls: list[tuple[Any, Sequence[Any], dict[str, Any], list[Tensor]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.name().partition(".")[0] in LOOKS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func.name()}")
        result = func(*args, **kwargs)
        inputs = {_place(x) for x in _tensors((args, kwargs))}
        made = [x for x in _tensors(result) if _place(x) not in inputs]
        self._calls.append((func, args, kwargs, made))
        return result

    @torch.no_grad()
    def play(self) -> None:
        for func, args, kwargs, made in self._calls:
            result = func(*args, **kwargs)
            if made:
                for before, now in zip(made, _tensors(result), strict=True):
                    before.copy_(now)


def _tensors(tree: Any) -> list[Tensor]:
    leaves: list[Any] = tree_leaves(tree)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]  # its identity
