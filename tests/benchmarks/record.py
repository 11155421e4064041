"""What a session of measurements leaves behind: one JSON file.

Session -> write -> FILE.json -> read -> Session          (report.py makes tables of it)
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import dacite

from agents.policy import write_atomically

FORMAT = "murmuration-benchmarks/1"


class RecordError(ValueError):
    """A file is no record of measurements."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One turn and what came of it."""

    benchmark: str
    kind: str
    repetition: int
    case: dict[str, Any]
    """Parameters; of a loop beside ours those of the run of ours."""
    figures: dict[str, float | None] = field(default_factory=dict[str, float | None])
    """Empty if it failed."""
    error: str = ""
    wall_s: float
    """Start and stop of all processes included; of those that play in turn the first has it all."""
    load: float
    """Load average over the last minute, when the turn began."""


@dataclass(kw_only=True, slots=True)
class Session:
    """A machine, a commit, and rows in the order in which they were measured."""

    format: str = FORMAT
    begun: str
    """Local time, ISO 8601."""
    machine: dict[str, Any]
    source: dict[str, Any]
    """commit, and whether the tree was dirty."""
    options: dict[str, Any]
    """Of the command line."""
    load_before: list[float]
    load_after: list[float] = field(default_factory=list[float])
    """Empty as long as turns are left."""
    wall_s: float = 0.0
    rows: list[Row] = field(default_factory=list[Row])


def write(path: Path, session: Session) -> None:
    """The whole file or none."""
    write_atomically(path, json.dumps(dataclasses.asdict(session), indent=1).encode())


def read(path: Path) -> Session:
    """A session that was written.

    Raises:
        RecordError: unreadable, or of another format.
    """
    try:
        content: Any = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        session = dacite.from_dict(
            Session, cast("dict[str, Any]", content), dacite.Config(strict=True)
        )
    except (OSError, ValueError, dacite.DaciteError) as error:
        raise RecordError(f"{path} holds no measurements: {error}") from error
    if session.format != FORMAT:
        raise RecordError(f"{path} has format {session.format!r}, expected {FORMAT!r}")
    return session
