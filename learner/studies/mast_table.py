"""What the cells of the study `mast` have come to, as rows of MAST's table 1.

    summary.json, evaluation-*.json of each cell -> figures -> a row per method, mean ± over seeds
                                                 -> Markdown, TASK.csv

Everything but bytes and seconds is also given as a share of the dense method's. ± is the standard
deviation over seeds, as in table 5 of the paper; one seed has none.
"""

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from agents.policy import write_atomically
from configs.schema import EnvName
from learner.studies.analysis import FinishedCell
from learner.studies.headline import in_print, opponents_of, reached_of
from learner.studies.mast_methods import ABLATED, ABLATIONS, METHODS, REFERENCE, Method


class Spread(NamedTuple):
    """Mean and standard deviation over seeds."""

    mean: float
    deviation: float | None

    def over(self, mean: float) -> "Spread | None":
        """In shares of another mean."""
        if mean == 0.0:
            return None
        return Spread(self.mean / mean, None if self.deviation is None else self.deviation / mean)


@dataclass(frozen=True, slots=True)
class Row:
    """A method. What nobody has measured is None."""

    name: str
    seeds: tuple[int, ...]
    sparsity: float
    """Share of zeros among the masked weights."""
    size: float | None
    """Parameters in training, targets included, as a share of the dense method's."""
    training_flops: float | None
    inference_flops: float | None
    reached: dict[str, Spread]
    """By opponent: win rate, or mean return where there is none."""
    normalised: dict[str, Spread]
    """The same as a share of the dense method's mean."""
    update_s: float | None
    """Seconds of an update, in the last sitting of each run."""
    wall_s: float | None
    """Seconds of a training, all sittings together."""
    version_bytes: float | None
    """Of a parameter version on the wire, in the last sitting of each run."""
    edge_bytes: float | None
    """Of messages and beacons, per agent and step of the evaluations."""


def rows_of(cells: Iterable[FinishedCell], task: EnvName) -> list[Row]:
    """A row for each method, in the order in which they come; cells are complete."""
    grouped: dict[str, list[FinishedCell]] = {}
    for cell in cells:
        grouped.setdefault(cell.arm, []).append(cell)
    dense = grouped.get(REFERENCE, [])
    wanted = {opponent: _reached(dense, opponent, task) for opponent in opponents_of(task)}
    return [_row(name, own, dense, wanted, task) for name, own in grouped.items()]


def _row(
    name: str,
    cells: Sequence[FinishedCell],
    dense: Sequence[FinishedCell],
    wanted: Mapping[str, Spread | None],
    task: EnvName,
) -> Row:
    def share(figure: str) -> float | None:
        own, whole = _mean(cells, figure), _mean(dense, figure)
        return own / whole if own is not None and whole else None

    reached: dict[str, Spread] = {}
    normalised: dict[str, Spread] = {}
    for opponent in opponents_of(task):
        spread, of = _reached(cells, opponent, task), wanted[opponent]
        assert spread is not None
        reached[opponent] = spread
        relative = None if of is None else spread.over(of.mean)
        if relative is not None:
            normalised[opponent] = relative
    evaluations = [cell.evaluation(opponent) for cell in cells for opponent in opponents_of(task)]
    return Row(
        name=name,
        seeds=tuple(cell.seed for cell in cells),
        sparsity=_mean(cells, "sparsity") or 0.0,
        size=share("model_size"),
        training_flops=share("training_flops"),
        inference_flops=share("inference_flops"),
        reached=reached,
        normalised=normalised,
        update_s=_mean(cells, "learner_update_s_mean"),
        wall_s=_mean_of([cell.cell.seconds() for cell in cells]),
        version_bytes=_mean(cells, "version_bytes_mean"),
        edge_bytes=_mean_of([figures["edge_bytes_per_agent_step"] for figures in evaluations]),
    )


def _reached(cells: Sequence[FinishedCell], opponent: str, task: EnvName) -> Spread | None:
    if not cells:
        return None
    values = [reached_of(cell.evaluation(opponent), task) for cell in cells]
    return Spread(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None)


def _mean(cells: Sequence[FinishedCell], figure: str) -> float | None:
    """Of the runs' summaries."""
    return _mean_of([cell.cell.summary().get(figure) for cell in cells])


def _mean_of(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


# --- as text --------------------------------------------------------------------------------------


def markdown(rows: Sequence[Row], ablated: Sequence[Method], task: EnvName) -> str:
    """Table 1, and those of the ablations whose rows are given as well.

    Args:
        rows: of all methods that have one.
        ablated: what each table holds.
    """
    what = in_print(task)
    heads = ["method", "seeds", "sparsity", "total size", "FLOPs train", "FLOPs test"]
    for opponent in opponents_of(task):
        heads += [f"{what} against {opponent}" if opponent else what, "of dense"]
    heads += ["s per update", "s per run", "bytes per version", "edge bytes per agent-step"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        if row.name.partition("@")[0] not in METHODS:
            continue
        cells = [row.name, f"{len(row.seeds)}", f"{row.sparsity:.1%}", _times(row.size)]
        cells += [_times(row.training_flops), _times(row.inference_flops)]
        for opponent in opponents_of(task):
            cells += [_spread(row.reached[opponent]), _relative(row.normalised.get(opponent))]
        cells += [_number(row.update_s, 3), _number(row.wall_s, 0)]
        cells += [_number(row.version_bytes, 0), _number(row.edge_bytes, 0)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *_ablations(rows, ablated, task), ""])


def _ablations(rows: Sequence[Row], ablated: Sequence[Method], task: EnvName) -> list[str]:
    by_name = {row.name: row for row in rows}
    lines: list[str] = []
    for table, ablation in ABLATIONS.items():
        present = [m for m in ablated if m.table == table and m.name in by_name]
        if all(method.name == ABLATED for method in present):
            continue
        title = f"Table {table}" if table != "-" else "Not in the paper"
        heads = [f"against {o}" if o else "of dense" for o in opponents_of(task)]
        lines += ["", f"{title}: {ablation.caption}", "", f"| | {' | '.join(heads)} |"]
        lines.append("|---" * (len(heads) + 1) + "|")
        for method in present:
            row = by_name[method.name]
            reached = [
                _relative(row.normalised.get(o)) if row.normalised else _spread(row.reached[o])
                for o in opponents_of(task)
            ]
            lines.append(f"| {method.label} | {' | '.join(reached)} |")
    return lines


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}×"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _spread(spread: Spread) -> str:
    around = "" if spread.deviation is None else f" ± {spread.deviation:.3f}"
    return f"{spread.mean:.3f}{around}"


def _relative(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    around = "" if spread.deviation is None else f" ± {spread.deviation:.1%}"
    return f"{spread.mean:.1%}{around}"


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """The same with all digits, whole or not at all; what is unknown stays empty."""
    records = [_record(row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    write_atomically(path, text.getvalue().encode())


def _record(row: Row) -> dict[str, Any]:
    record: dict[str, Any] = {
        "method": row.name,
        "seeds": " ".join(map(str, row.seeds)),
        "sparsity": row.sparsity,
        "size": row.size,
        "training_flops": row.training_flops,
        "inference_flops": row.inference_flops,
    }
    for opponent, spread in row.reached.items():
        suffix = f"_{opponent}" if opponent else ""
        relative = row.normalised.get(opponent)
        record[f"reached{suffix}"], record[f"reached_std{suffix}"] = spread
        record[f"of_dense{suffix}"], record[f"of_dense_std{suffix}"] = relative or (None, None)
    return record | {
        "update_s": row.update_s,
        "wall_s": row.wall_s,
        "version_bytes": row.version_bytes,
        "edge_bytes_per_agent_step": row.edge_bytes,
    }
