"""An update that is recorded once and then replayed: one launch in place of thousands.

    batch ──copied──▶ static buffers ─┐
    temperature, charge, … ─filled──▶ ┴─▶ recorded: part, loss, gradients ─▶ static gradients, sums

At small windows a GPU waits for Python, which launches one small kernel after another. A recording
(learner/cuda_graph.py) launches all of them at once. It repeats addresses and numbers as they were,
so all that changes from one update to the next has to be told to it: the batch lies in buffers that
stay, values of schedules are scalars on the device (`Schedules.stand_ins`), and there is a
recording for each shape, and for each way that a schedule sends a loss (`Schedules.ways`).

Clipping and Adam's step stay outside: a handful of launches, and whether the step is taken at all
is known only when the loss has been read. Masks, targets and parameters change in place, so
recordings see them as they are.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from configs.schema import RunConfig
from learner.experience.device_batch import DeviceBatch
from learner.schedules import FACTORS, Schedules

logger = logging.getLogger(__name__)

MOST = 8
"""Recordings that are kept: each has its buffers. What does not come again is not worth one."""
_SEEN_BEFORE = 1
"""Times that a shape has to have come before it is recorded."""


@dataclass(frozen=True, slots=True, eq=False)
class Worked:
    """What an update's batch comes to."""

    gradients: Sequence[Tensor | None]
    """Of each parameter; None where it has no part in the loss."""
    sums: dict[str, Tensor]
    """[] each: for the metrics."""


Work = Callable[[DeviceBatch, torch.Generator], Worked]


class Recorder(Protocol):
    """Records what a function does on a device."""

    def record(
        self, work: Callable[[], Worked], generator: torch.Generator
    ) -> Callable[[], Worked]:
        """What does the same again, with what then lies at the same addresses. Draws of the
        generator go on from where it then stands.

        Raises:
            RuntimeError: the function cannot be recorded.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Recording:
    batch: DeviceBatch
    factors: Tensor
    """[F] values of schedules, in the order of FACTORS."""
    replay: Callable[[], Worked]


class CapturedUpdate:
    """Works off batches by recordings of one function.

    Args:
        work: does the same operations for all batches of the same shapes, whatever is in them.
        recorder: of the device.
        schedules: read by `work`.
    """

    def __init__(self, work: Work, recorder: Recorder, schedules: Schedules) -> None:
        self._work = work
        self._recorder: Recorder | None = recorder
        self._schedules = schedules
        self._seen: dict[Hashable, int] = {}
        self._recordings: dict[Hashable, _Recording] = {}
        self._is_full = False
        self.replays = 0
        """Batches that a recording has worked off."""

    def __call__(self, batch: DeviceBatch, generator: torch.Generator) -> Worked | None:
        """What the batch comes to; None: no recording fits, and the caller does it step by step.

        The result is valid until the next call.
        """
        batch.wait()
        key = (_shapes(batch), self._schedules.ways, generator)
        recording = self._recordings.get(key)
        if recording is None:
            recording = self._recorded(key, batch, generator)
        if recording is None:
            return None
        _copy(batch, recording.batch)
        self._fill(recording.factors)
        self.replays += 1
        return recording.replay()

    def _recorded(
        self, key: Hashable, batch: DeviceBatch, generator: torch.Generator
    ) -> _Recording | None:
        if self._recorder is None or not self._is_worth_it(key):
            return None
        buffers = _like(batch)
        _copy(batch, buffers)  # what warms up should be a batch as any other
        factors = torch.zeros(len(FACTORS), device=batch.fields["starts"].device)
        self._fill(factors)
        before = generator.get_state()
        self._schedules.stand_ins = dict(zip(FACTORS, factors.unbind(0), strict=True))
        try:
            replay = self._recorder.record(lambda: self._work(buffers, generator), generator)
        except RuntimeError as error:
            reason, _, _ = str(error).partition("\n")  # CUDA's go on with advice
            logger.warning("learner.cuda_graph on: updates run step by step: %s", reason)
            self._recorder = None
            return None
        finally:
            self._schedules.stand_ins = None
            generator.set_state(before)  # the first replay draws what was drawn here
        self._recordings[key] = _Recording(buffers, factors, replay)
        return self._recordings[key]

    def _is_worth_it(self, key: Hashable) -> bool:
        """Whether it comes again, and there is room."""
        seen = self._seen.get(key, 0)
        if seen < _SEEN_BEFORE:
            self._seen[key] = seen + 1
            return False
        if len(self._recordings) < MOST:
            return True
        if not self._is_full:
            self._is_full = True
            logger.warning(
                "learner.cuda_graph: %d shapes are recorded, others run step by step; "
                "learner.window gives all batches one length",
                MOST,
            )
        return False

    def _fill(self, factors: Tensor) -> None:
        for factor, name in zip(factors.unbind(0), FACTORS, strict=True):
            factor.fill_(getattr(self._schedules, name))


def refusal(run: RunConfig, device: torch.device, *, recordable: bool) -> str | None:
    """Why updates are not recorded although `learner.cuda_graph` asks for it; None: nothing
    speaks against it.

    Args:
        recordable: whether the algorithm says of itself that it can be.
    """
    if device.type != "cuda":
        return f"the learner is on the {device.type}"
    if not recordable:
        return f"algorithm {run.learner.algorithm} does not say `recordable = True`"
    if run.gate.estimator != "straight-through":
        return f"gate.estimator {run.gate.estimator} draws from the same noise several times"
    if run.learner.also_agents:
        return "learner.also_agents makes each batch one of several sizes"
    return None


def _shapes(batch: DeviceBatch) -> Hashable:
    named = (*batch.fields.items(), *batch.columns.items())
    return (*((name, x.shape, x.dtype) for name, x in named), batch.has_rebirths)


def _like(batch: DeviceBatch) -> DeviceBatch:
    """Buffers for batches of these shapes."""
    fields = {name: torch.empty_like(x) for name, x in batch.fields.items()}
    columns = {name: torch.empty_like(x) for name, x in batch.columns.items()}
    return replace(batch, fields=fields, columns=columns, copied=None)


def _copy(batch: DeviceBatch, buffers: DeviceBatch) -> None:
    for name, x in batch.fields.items():
        buffers.fields[name].copy_(x, non_blocking=True)
    for name, x in batch.columns.items():
        buffers.columns[name].copy_(x, non_blocking=True)
