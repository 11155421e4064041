"""A run's numbers on disk.

    metrics(values)  -> metrics.jsonl, tensorboard/    one line a call, names `group/name_unit`
    episode(result)  -> episodes.jsonl                 one line an episode
    summary(values)  -> summary.json                   whole or not at all

Every line carries `t_s`, seconds since the log was opened. JSON has no NaN: what is not finite
becomes null.
"""

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO, cast

from agents.policy import write_atomically
from runtime.wire import EpisodeResult

logger = logging.getLogger(__name__)

EPISODES = "episodes.jsonl"
"""Name of the log of finished episodes within a run's folder."""


def new_run_directory(runs_dir: Path, env_name: str, now: datetime) -> Path:
    """Create runs/YYYYMMDD-HHMMSS-env, with a number behind it if the second is taken."""
    stem = f"{now:%Y%m%d-%H%M%S}-{env_name}"
    runs_dir.mkdir(parents=True, exist_ok=True)
    attempt = 1
    while True:
        directory = runs_dir / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            directory.mkdir()
        except FileExistsError:
            attempt += 1
        else:
            return directory


class RunLog:
    """The numbers of one run, appended line by line."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._opened_s = clock()
        # Line-buffered: a crash costs the line being written and no other.
        self._metrics = (directory / "metrics.jsonl").open("a", buffering=1, encoding="utf-8")
        self._episodes = (directory / EPISODES).open("a", buffering=1, encoding="utf-8")
        self._scalars = _open_scalars(directory / "tensorboard")

    def metrics(self, env_steps: int, values: Mapping[str, float | None]) -> None:
        """Append one line; None is a number that nobody knows yet."""
        finite: dict[str, float | None] = _finite(values)
        self._append(self._metrics, {"env_steps": env_steps, **finite})
        if self._scalars is not None:
            self._scalars.add(
                env_steps, {name: value for name, value in finite.items() if value is not None}
            )

    def episode(self, result: EpisodeResult) -> None:
        fields = dataclasses.asdict(result)
        flags = {name: bool(fields[name]) for name in ("evaluation", "won")}
        self._append(self._episodes, {**_finite({**fields, **flags})})

    def summary(self, values: Mapping[str, Any]) -> None:
        """Replace summary.json; values are whatever JSON can say."""
        text = json.dumps(_finite(values), indent=2, allow_nan=False)
        write_atomically(self._directory / "summary.json", text.encode() + b"\n")

    def close(self) -> None:
        self._metrics.close()
        self._episodes.close()
        if self._scalars is not None:
            self._scalars.close()

    def _append(self, file: TextIO, fields: Mapping[str, Any]) -> None:
        t_s = round(self._clock() - self._opened_s, 3)
        file.write(json.dumps({"t_s": t_s, **fields}, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in cast("Sequence[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Scalars:
    """A TensorBoard event file, written without torch or tensorflow."""

    def __init__(self, directory: Path, writer: Any, event: Any, summary: Any) -> None:
        self._writer = writer(str(directory))
        self._event = event
        self._summary = summary

    def add(self, step: int, values: Mapping[str, float]) -> None:
        entries = [self._summary.Value(tag=tag, simple_value=v) for tag, v in values.items()]
        self._writer.add_event(
            self._event(wall_time=time.time(), step=step, summary=self._summary(value=entries))
        )

    def close(self) -> None:
        self._writer.close()


def _open_scalars(directory: Path) -> _Scalars | None:
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError:
        logger.info("tensorboard is not installed: metrics go to metrics.jsonl only")
        return None
    # The generated modules define their classes when they are imported; no checker sees them.
    event, summary = cast("Any", event_pb2).Event, cast("Any", summary_pb2).Summary
    return _Scalars(directory, EventFileWriter, event, summary)
