"""Turn after turn, with a word on each and everything on disk as it comes.

    Turn, … -> Case in an interpreter of its own -> Row -> Session -> FILE.json

A turn that fails leaves its error in its row, and the others are measured all the same. What a file
holds already is not measured again, so that a session may be worked off in pieces.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from configs.schema import EnvConfig
from envs.registry import spec_of
from tests.benchmarks.case import CaseError, IsDataclass, as_dict, run_case
from tests.benchmarks.interleaved import InterleavedCase, of_kind
from tests.benchmarks.lockstep import LockstepCase
from tests.benchmarks.machine import load_average
from tests.benchmarks.plan import OURS, Turn
from tests.benchmarks.record import Row, Session, write
from tests.benchmarks.update_case import KEPT_MEMORY, UpdateCase
from tests.benchmarks.workload import Workload, workload_of

_PATIENCE = 8.0
"""A turn may take so many times what is expected, and a minute."""


@dataclass(slots=True)
class Measuring:
    """Works off turns.

    Args:
        session: that rows are added to.
        out: where it is kept; None keeps it nowhere.
        console: that is told how it goes.
        ray_python: interpreter that has Ray.
    """

    session: Session
    out: Path | None
    console: Console
    ray_python: str = sys.executable

    def run(self, turns: Sequence[Turn], minutes: float = float("inf")) -> bool:
        """Measure what is missing; False if time ran out before all was done."""
        known = {_key(row) for row in self.session.rows if row.figures}
        missing = [turn for turn in turns if _key_of(turn) not in known]
        begun_s, spent_s, expected_s = time.monotonic(), 0.0, 0.0
        for number, turn in enumerate(missing):
            # Measured against what was expected so far, the rest will take so much longer.
            slower = spent_s / expected_s if expected_s else 1.0
            left_s = slower * sum(later.expected_s for later in missing[number:])
            elapsed_s = time.monotonic() - begun_s
            if elapsed_s + slower * turn.expected_s > 60.0 * minutes:
                self.console.print(f"{len(missing) - number} turns are left for the next piece")
                return False
            self.console.print(
                f"[{number + 1}/{len(missing)}, {_clock(left_s)} to go] {turn.benchmark}: "
                f"{turn.kind}, {describe(turn.case)} … ",
                end="",
                highlight=False,
            )
            rows = self._measure(turn)
            replaced = {_key(row) for row in rows}
            self.session.rows = [r for r in self.session.rows if _key(r) not in replaced]
            self.session.rows += rows
            row = rows[0]
            self.session.wall_s += row.wall_s
            spent_s, expected_s = spent_s + row.wall_s, expected_s + turn.expected_s
            self.console.print(row.error.splitlines()[-1] if row.error else _result(rows))
            if self.out is not None:
                write(self.out, self.session)
        self.session.load_after = load_average()
        if self.out is not None:
            write(self.out, self.session)
        return True

    def _measure(self, turn: Turn) -> list[Row]:
        """A row for each of those that have played; the first has the time of all."""
        load, began_s = load_average()[0], time.monotonic()
        figures: dict[str, float | None] = {}
        error = ""
        try:
            figures = run_case(
                turn.module,
                self._case(turn),
                timeout_s=60.0 + _PATIENCE * turn.expected_s,
                environment=KEPT_MEMORY if isinstance(turn.case, UpdateCase) else None,
            )
        except (CaseError, ValueError) as problem:
            error = str(problem) or type(problem).__name__
        row = Row(
            benchmark=turn.benchmark,
            kind=turn.kind,
            repetition=turn.repetition,
            case=_plain(turn.case),
            figures=figures,
            error=error,
            wall_s=round(time.monotonic() - began_s, 3),
            load=load,
        )
        if error or not isinstance(turn.case, InterleavedCase):
            return [row]
        first, *others = (
            dataclasses.replace(row, kind=kind, figures=of_kind(figures, kind))
            for kind in turn.case.kinds
        )
        return [first, *(dataclasses.replace(other, wall_s=0.0) for other in others)]

    def _case(self, turn: Turn) -> IsDataclass:
        """What is handed to the interpreter.

        Raises:
            ValueError: the run of ours that it should stand beside has failed.
        """
        case = turn.case
        if isinstance(case, InterleavedCase):
            return dataclasses.replace(case, ray_python=self.ray_python)
        if turn.kind == OURS or not isinstance(case, LockstepCase):
            return case
        for row in reversed(self.session.rows):
            if row.figures and _key(row) == _key_of(dataclasses.replace(turn, kind=OURS)):
                return workload_beside(case, row)
        raise ValueError("there is no run of ours to stand beside")


def workload_beside(case: LockstepCase, ours: Row) -> Workload:
    """The work that a run of ours did."""
    env = spec_of(EnvConfig(name=case.env), case.agents)
    return workload_of(
        ours.figures,
        agents=case.agents,
        copies=case.copies,
        seconds=case.seconds,
        observation_dim=env.observation_dim,
        num_actions=env.num_actions,
    )


def describe(case: IsDataclass) -> str:
    """A case in a few words."""
    fields = _plain(case)
    shown = ("env", "agents", "copies", "gate_mode", "telemetry", "batch", "window", "threads")
    return " ".join(f"{name}={fields[name]}" for name in shown if fields.get(name))


def _result(rows: Sequence[Row]) -> str:
    row, *others = rows
    words = [
        f"{name} {value:.4g}"
        for name in ("steps_per_s", "update_s")
        if (value := row.figures.get(name)) is not None
    ]
    words += [
        f"{value:.2f} × {other.kind}"
        for other in others
        if (value := other.figures.get("ratio")) is not None
    ]
    return f"{', '.join(words)}   ({row.wall_s:.0f} s)"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _plain(case: IsDataclass) -> dict[str, Any]:
    """As it looks after a trip through JSON."""
    return json.loads(json.dumps(as_dict(case)))


def _key(row: Row) -> tuple[str, str, int, str]:
    return row.benchmark, row.kind, row.repetition, json.dumps(row.case, sort_keys=True)


def _key_of(turn: Turn) -> tuple[str, str, int, str]:
    case = json.dumps(_plain(turn.case), sort_keys=True)
    return turn.benchmark, turn.kind, turn.repetition, case
