"""A run's numbers on disk.

    metrics(values)  -> metrics.jsonl, tensorboard/    one line a call, names `group/name_unit`
    evaluation(…)    -> tensorboard/                   a point at the step of the evaluation
    both, summary    -> a tracker                      if one is asked for (trackers.py)
    episode(result)  -> episodes.jsonl                 one line an episode
    summary(values)  -> summary.json                   whole or not at all

Every line carries `t_s`, seconds since the log was opened, `life`, how often the run had been
resumed, and `resumed_at`, the environment steps from which that life went on
(runtime/record/json_lines.py leaves out what was played anew). JSON has no NaN: what is not finite
becomes null. What a full disk does not take is left out, whole lines of it, and counted
(`log_lines_lost` in the summary); the run goes on.
"""

import dataclasses
import json
import logging
import math
import os
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from agents.policy import write_atomically
from configs.run_files import EPISODES, METRICS
from runtime.net.logs import lines_lost
from runtime.net.wire import EpisodeResult
from runtime.record.json_lines import LIFE, RESUMED_AT, mend
from runtime.record.trackers import Tracker

logger = logging.getLogger(__name__)


_WARNING_PERIOD_S = 30.0


def new_run_directory(runs_dir: Path, env_name: str, now: datetime) -> Path:
    """Create runs/YYYYMMDD-HHMMSS-env, with a number behind it if the second is taken.

    Signs that mean something to a shell, as the colon in pettingzoo:mpe2.simple_spread_v3 does to
    lists of paths, become hyphens.
    """
    stem = f"{now:%Y%m%d-%H%M%S}-{re.sub(r'[^A-Za-z0-9._-]+', '-', env_name)}"
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
    """The numbers of one run, appended line by line.

    Args:
        directory: the run's folder. What a crash has left half written at the end of a log there
            is cut off.
        tracker: follows the run as well; closed with the log.
        life: how often the run has been resumed.
        resumed_at: environment steps from which this life of the run goes on.

    Raises:
        OSError: a file cannot be opened or mended.
    """

    def __init__(
        self,
        directory: Path,
        clock: Callable[[], float] = time.monotonic,
        *,
        tracker: Tracker | None = None,
        life: int = 0,
        resumed_at: int = 0,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._opened_s = clock()
        paths = directory / METRICS, directory / EPISODES
        self._life = {LIFE: life, RESUMED_AT: resumed_at}
        for path in paths:
            if cut := mend(path):
                logger.warning("%s: %d bytes of a broken last line are cut off", path, cut)
        self._metrics, self._episodes = map(_Records, paths)
        purged_from = resumed_at + 1 if life else None
        self._tracker = tracker
        self._scalars = _open_scalars(directory / "tensorboard", purged_from)
        self._warn_at = -math.inf
        """Clock reading from which lost lines are worth another warning."""
        self._warned_of = 0

    def metrics(self, env_steps: int, values: Mapping[str, float | None]) -> None:
        """Append one line; None is a number that nobody knows yet.

        Others get no `eval/…` from here: every row repeats those of the last evaluation.
        """
        finite: dict[str, float | None] = _finite(values)
        self._append(self._metrics, {"env_steps": env_steps, **finite})
        known = {
            name: value
            for name, value in finite.items()
            if value is not None and not name.startswith("eval/")
        }
        self._show(env_steps, known)
        self._warn()

    def evaluation(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Give TensorBoard a whole evaluation, at the training step when it fell due."""
        self._show(env_steps, _finite(values))

    def _show(self, env_steps: int, values: Mapping[str, float]) -> None:
        if self._scalars is not None:
            self._scalars.add(env_steps, values)
        if self._tracker is not None:
            self._tracker.log(env_steps, values)

    @property
    def lines_lost(self) -> int:
        """Lines and TensorBoard records that could not be written."""
        scalars = 0 if self._scalars is None else self._scalars.lost
        return self._metrics.lost + self._episodes.lost + scalars

    def episode(self, result: EpisodeResult) -> None:
        fields = dataclasses.asdict(result)
        if not result.metrics:
            del fields["metrics"]
        flags = {name: bool(fields[name]) for name in ("evaluation", "won")}
        self._append(self._episodes, {**_finite({**fields, **flags})})

    def summary(self, values: Mapping[str, Any]) -> None:
        """Replace summary.json; values are whatever JSON can say.

        Our own losses are added to `log_lines_lost`. A summary that cannot be written goes to the
        log.
        """
        lost = int(values.get("log_lines_lost", 0)) + self.lines_lost + lines_lost()
        values = {**values, "log_lines_lost": lost}
        if self._tracker is not None:
            self._tracker.summary(_finite(values))
        text = json.dumps(_finite(values), indent=2, allow_nan=False)
        try:
            write_atomically(self._directory / "summary.json", text.encode() + b"\n")
        except OSError as error:
            logger.error("summary.json could not be written: %s\n%s", error, text)

    def close(self) -> None:
        self._metrics.close()
        self._episodes.close()
        if self._scalars is not None:
            self._scalars.close()
        if self._tracker is not None:
            self._tracker.close()

    def _append(self, file: "_Records", fields: Mapping[str, Any]) -> None:
        t_s = round(self._clock() - self._opened_s, 3)
        line = json.dumps({"t_s": t_s, **self._life, **fields}, allow_nan=False)
        file.write(line.encode() + b"\n")

    def _warn(self) -> None:
        if self.lines_lost > self._warned_of and self._clock() >= self._warn_at:
            self._warn_at = self._clock() + _WARNING_PERIOD_S
            self._warned_of = self.lines_lost
            logger.warning("%d lines of the run's log could not be written", self.lines_lost)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in cast("Sequence[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Records:
    """A file that grows by whole records: one that does not fit leaves no trace but its count."""

    def __init__(self, path: Path) -> None:
        self.lost = 0
        self._kept = 0
        # Unbuffered, one write a record: a crash costs the record being written and no other, and
        # nothing is left in a buffer to come out later in the middle of another.
        self._file = path.open("ab", buffering=0)
        self._end = self._file.seek(0, os.SEEK_END)

    def write(self, record: bytes) -> None:
        if self._is_deleted():
            # With the file, all that is in it: it still takes records, and nobody will read them.
            self.lost, self._kept = self.lost + self._kept + 1, 0
            return
        try:
            written = self._file.write(record)
        except OSError:
            written = 0
        if written == len(record):
            self._end += written
            self._kept += 1
            return
        self.lost += 1
        with suppress(OSError):
            self._file.truncate(self._end)  # a disk that is almost full takes half of it

    def _is_deleted(self) -> bool:
        try:
            return os.fstat(self._file.fileno()).st_nlink == 0
        except OSError:
            return True

    def close(self) -> None:
        self._file.close()


class _Scalars:
    """A TensorBoard event file, written without torch or tensorflow.

    Not with TensorBoard's own writer: its thread dies of a full disk.

    Args:
        purged_from: TensorBoard forgets what earlier files say of this step and later ones; None
            for a run's first file.
    """

    def __init__(self, directory: Path, purged_from: int | None) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        # The generated modules define their classes when they are imported; no checker sees them.
        events, summaries = cast("Any", event_pb2), cast("Any", summary_pb2)
        directory.mkdir(exist_ok=True)
        # TensorBoard reads every file of a folder whose name begins like this, by time.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self._records = _Records(directory / name)
        self._writer: Any = RecordWriter(self._records)
        self._event, self._summary = events.Event, summaries.Summary
        self._write(self._event(wall_time=time.time(), file_version="brain.Event:2"))
        if purged_from is not None:
            start = events.SessionLog(status=events.SessionLog.START)
            self._write(self._event(wall_time=time.time(), step=purged_from, session_log=start))

    @property
    def lost(self) -> int:
        return self._records.lost

    def add(self, step: int, values: Mapping[str, float]) -> None:
        entries = [self._summary.Value(tag=tag, simple_value=v) for tag, v in values.items()]
        summary = self._summary(value=entries)
        self._write(self._event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())

    def close(self) -> None:
        self._records.close()


def _open_scalars(directory: Path, purged_from: int | None) -> _Scalars | None:
    try:
        return _Scalars(directory, purged_from)
    except ImportError:
        logger.info("tensorboard is not installed: metrics go to metrics.jsonl only")
        return None
