"""JSON lines: one object a line, appended by one process, read by anybody.

    read_records(file)     -> the whole records             a broken tail is left out
    lives(records)         -> the records of each life of a run
    current_lives(records) -> the same without the steps that a later life has played again
    mend(file)             -> a file that ends with a whole record: the next one begins a line

A kill, a full disk or a power cut breaks what was written last: half a line, or NULs where the file
had grown and its content had not arrived. That is a lost record and no obstacle. A line in the
middle that is no record is damage of another kind: it is refused, and named.
"""

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from configs.bounded import parse_json, require_regular
from configs.load import ConfigError

Record = dict[str, Any]

LIFE, RESUMED_AT = "life", "resumed_at"
"""Keys of a run's records: how often the run had been resumed when the line was written, and the
environment steps from which that life went on."""

_BLOCK_BYTES = 1 << 16


def read_records(path: Path) -> list[Record]:
    """All whole records of a file, in order; empty if there is no file.

    Raises:
        ConfigError: a line is damaged that is not the last; the message names file and line.
        OSError: the file cannot be read.
    """
    try:
        require_regular(path)
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    found: list[Record] = []
    damaged: int | None = None
    for number, line in enumerate(content.split(b"\n"), start=1):
        record = _record_of(line)
        if record is None:
            # NULs are a hole where data never arrived, wherever it is.
            if damaged is None and line.strip() and b"\0" not in line:
                damaged = number
            continue
        if damaged is not None:
            raise ConfigError(f"{path}, line {damaged} is damaged: remove that line to go on")
        found.append(record)
    return found


def last_record(path: Path) -> Record | None:
    """The newest whole record, without reading the file from its beginning; None: there is none.

    Raises:
        OSError: the file cannot be read.
    """
    return _end_of_records(path)[1]


def mend(path: Path) -> int:
    """Cut a file behind its last whole record; returns how many bytes were cut.

    Raises:
        OSError: the file cannot be read or written.
    """
    end, _ = _end_of_records(path)
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.truncate(end)
        file.seek(max(end - 1, 0))
        if end and file.read(1) != b"\n":  # cut off just before the end of its line
            file.write(b"\n")
    return size - end


def lives(records: Iterable[Record]) -> list[list[Record]]:
    """A run's records by life: one list for its first start and one for each resume."""
    found: list[list[Record]] = []
    last: Record = {}
    for record in records:
        if not found or _begins_life(last, record):
            found.append([])
        found[-1].append(record)
        last = record
    return found


def current_lives(records: Iterable[Record]) -> list[list[Record]]:
    """`lives` without what was superseded.

    A run that was killed goes on from its last checkpoint and plays the steps since then again.
    What an earlier life has recorded of them is left out.

    Args:
        records: of metrics.jsonl or episodes.jsonl, in the order of the file.
    """
    kept: list[list[Record]] = []
    most = math.inf
    for life in reversed(lives(records)):
        kept.insert(0, [record for record in life if _steps(record) <= most])
        most = min(most, _resumed_at(life))
    return kept


def _begins_life(last: Record, record: Record) -> bool:
    if LIFE in last or LIFE in record:
        return last.get(LIFE) != record.get(LIFE)
    # Older logs do not number their lives, but the seconds of each begin at 0.
    return record.get("t_s", 0.0) < last.get("t_s", 0.0)


def _resumed_at(life: Sequence[Record]) -> float:
    stated = life[0].get(RESUMED_AT)
    return min(map(_steps, life)) if stated is None else float(stated)


def _steps(record: Record) -> float:
    """Training steps that a record belongs to; of an evaluation when it fell due."""
    step = record.get("evaluated_at") if record.get("evaluation") else None
    return float(record.get("env_steps", 0) if step is None else step)


def _record_of(line: bytes) -> Record | None:
    try:
        value = parse_json(line)
    except ValueError:
        return None
    return cast("Record", value) if isinstance(value, dict) else None


def _end_of_records(path: Path) -> tuple[int, Record | None]:
    """Where the last whole record ends, behind its newline if it has one, and the record."""
    if not path.exists():
        return 0, None
    require_regular(path)
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        length = min(_BLOCK_BYTES, size)
        while True:
            start = size - length
            file.seek(start)
            lines = file.read(length).split(b"\n")
            end = size
            for number in range(len(lines) - 1, -1, -1):
                # The first line of a block may be the end of a longer one.
                record = _record_of(lines[number]) if number or not start else None
                if record is not None:
                    return end, record
                end -= len(lines[number]) + 1 if number < len(lines) - 1 else len(lines[number])
            if not start:
                return 0, None
            length = min(4 * length, size)
