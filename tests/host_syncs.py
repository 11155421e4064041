"""Counts what would make the host wait for a GPU, on any machine.

    with HostSyncs() as syncs: learner.update()
    syncs.places -> ["learner/learner.py:312 gradient_of: cpu", …]

Two ways to see it, since neither sees all: operations whose result the host looks at (`item`,
`nonzero`, an index of bools, …) show in torch's dispatcher; copies to the host, which on a CPU are
no operation at all, show where Python asks for them.

What is made on the host and moved (`torch.tensor(…, device=…)`) counts as well: on a GPU it is a
copy from memory that is not pinned. `Transfer` is exempt, whose job it is to do that without a
wait (learner/experience/device_batch.py), and so is what a CPU alone does.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).parent.parent
LOOKED_AT = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::nonzero_numpy",
    "aten::masked_select",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::_unique",
    "aten::_unique2",
    "aten::repeat_interleave",
    "aten::bincount",
    "aten::equal",
    "aten::is_nonzero",
    "aten::lift_fresh",
}
"""Operations that wait for the device: the size or the value of their result is the host's to know;
or their content comes from it."""
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
TO_HOST: dict[Any, str] = {getattr(Tensor, name): name for name in ("cpu", "tolist", "__array__")}
EXEMPT = {
    ("learner/experience/device_batch.py", "_tensor"),  # pinned and on a stream of its own
    ("learner/noise.py", "branch"),  # of a CPU alone
}


class HostSyncs:
    """What waited while it was entered."""

    def __init__(self) -> None:
        self.places: list[str] = []
        """File, line and function of ours that led to each, and what it was."""
        self._modes: tuple[Any, ...] = (_Operations(self._note), _Copies(self._note))

    def __enter__(self) -> Self:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    def _note(self, what: str) -> None:
        frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path != Path(__file__) and path.is_relative_to(ROOT):
                where, name = path.relative_to(ROOT).as_posix(), frame.f_code.co_name
                if (where, name) not in EXEMPT:
                    self.places.append(f"{where}:{frame.f_lineno} {name}: {what}")
                return
            frame = frame.f_back
        self.places.append(f"torch itself: {what}")  # such as a backward pass


class _Operations(TorchDispatchMode):
    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        self._note = note

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name: str = func.name().partition(".")[0]
        kwargs = kwargs or {}
        if name in INDEXING:
            bools = [x for x in args[1] if x is not None and x.dtype in (torch.bool, torch.uint8)]
            if bools:
                self._note(f"{name} by bools")
        elif name in LOOKED_AT and kwargs.get("output_size") is None:
            self._note(name)
        return func(*args, **kwargs)


class _Copies(TorchFunctionMode):
    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func in TO_HOST:
            self._note(TO_HOST[func])
            # The list of what has been copied is made on the host.
            with torch._C.DisableTorchFunction():  # pyright: ignore
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
