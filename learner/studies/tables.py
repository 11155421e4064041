"""Tables of a study: Markdown to read, CSV and Parquet to compute with.

    rows -> table.md, table.csv, table.parquet      a row for each task and arm, mean over seeds
    measured -> cells.csv, cells.parquet            a row for each seed

In Markdown each task has a table of its own, and the paper's number stands behind ours.
"""

import csv
import importlib
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.policy import write_atomically
from learner.studies.figures import Measured, Row, in_paper
from learner.studies.intervals import Interval
from learner.studies.study import Arm, Numbers

logger = logging.getLogger(__name__)

_UNITS = {
    "win_rate": "win rate",
    "out_degree": "out-degree",
    "open_share": "edges open",
    "edge_bytes": "edge bytes per agent-step",
    "auc": "AUC",
    "test": "last test",
    "played": "return in training",
    "wall_s": "s per run",
    "update_s": "s per update",
    "version_bytes": "bytes per version",
    "model_size": "parameters",
    "training_flops": "FLOPs train",
    "inference_flops": "FLOPs test",
}


def in_print(figure: str) -> str:
    """Its name for a head of a table or an axis."""
    return _UNITS.get(figure, figure.replace("_", " "))


def markdown(
    rows: Sequence[Row], report: Sequence[str], paper: Numbers, headlines: Mapping[str, str]
) -> str:
    """A table for each task.

    Args:
        report: figures, in their order; `headline` is the task's own.
        headlines: that figure's name, by task.
    """
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.task, []).append(row)
    return "\n".join(
        line
        for task, own in grouped.items()
        for line in ("", f"### {task}", "", *_table(task, own, report, paper, headlines))
    )


def _table(
    task: str,
    rows: Sequence[Row],
    report: Sequence[str],
    paper: Numbers,
    headlines: Mapping[str, str],
) -> list[str]:
    known = [name for name in report if any(name in row.figures for row in rows)]
    own = headlines.get(task.partition("@")[0].partition(" vs ")[0], "headline")
    heads, columns = ["arm", "seeds"], list[list[str]]()
    for name in known:
        heads.append(in_print(own if name == "headline" else name))
        columns.append([shown(row.figures.get(name)) for row in rows])
        figure = own if name == "headline" else name
        theirs = [in_paper(paper, figure, task, row.arm) for row in rows]
        if any(mean is not None for mean, _ in theirs):
            heads.append("paper")
            columns.append([_shown_paper(*number) for number in theirs])
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for number, row in enumerate(rows):
        cells = [row.arm, f"{len(row.seeds)}", *(column[number] for column in columns)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def shown(interval: Interval | None) -> str:
    """0.914 ± 0.060, where ± is half of the 95 % interval; a single seed has none."""
    if interval is None:
        return "–"
    around = "" if interval.half is None else f" ± {number(interval.half)}"
    return f"{number(interval.mean)}{around}"


def _shown_paper(mean: float | None, spread: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:g}" if spread is None else f"{mean:g} ± {spread:g}"


def number(value: float) -> str:
    """Three digits behind the point, fewer where there are many in front."""
    digits = 3 if abs(value) < 10.0 else 1 if abs(value) < 1000.0 else 0
    return f"{value:,.{digits}f}"


def overall_markdown(overall: Mapping[str, Mapping[str, Interval]]) -> str:
    """Interquartile means over scenarios.

    Args:
        overall: by figure and arm.
    """
    lines: list[str] = []
    for figure, arms in overall.items():
        lines += ["", f"### All scenarios, {in_print(figure)}", ""]
        lines += ["| arm | seeds | interquartile mean | 95 % interval |", "|---|---|---|---|"]
        for arm, mean in arms.items():
            assert mean.low is not None
            assert mean.high is not None
            limits = f"{number(mean.low)} to {number(mean.high)}"
            lines.append(f"| {arm} | {mean.number} | {number(mean.mean)} | {limits} |")
    return "\n".join(lines)


def notes(arms: Mapping[str, Arm]) -> str:
    """What a reader has to know of the arms."""
    lines = [f"- {name}: {arm.note}" for name, arm in arms.items() if arm.note]
    return "\n".join(["", *lines]) if lines else ""


# --- for computing --------------------------------------------------------------------------------

Record = dict[str, Any]


def records_of(rows: Iterable[Row], paper: Numbers) -> list[Record]:
    """Rows of table.csv."""
    found: list[Record] = []
    for row in rows:
        record: Record = {"task": row.task, "arm": row.arm, "seeds": " ".join(map(str, row.seeds))}
        for name, interval in row.figures.items():
            record |= {name: interval.mean, f"{name}_low": interval.low}
            record[f"{name}_high"] = interval.high
            mean, spread = in_paper(paper, name, row.task, row.arm)
            if mean is not None:
                record |= {f"{name}_paper": mean, f"{name}_paper_spread": spread}
        found.append(record)
    return found


def cell_records(measured: Iterable[Measured]) -> list[Record]:
    """Rows of cells.csv: what each seed has come to, and how it was obtained."""
    return [
        {
            "task": each.task,
            "arm": each.arm,
            "seed": each.seed,
            "agents": each.evaluation.agents or each.job.config.num_agents,
            "steps": each.job.wanted.steps,
            "serial": each.job.config.runtime.serial,
            "episodes": each.job.cell.evaluation(each.evaluation).get("evaluation_episodes", 0),
            "simulated": bool(each.job.cell.evaluation(each.evaluation).get("simulated")),
            "folder": str(each.job.cell.folder),
            **each.figures,
        }
        for each in measured
    ]


def write_records(records: Sequence[Record], stem: Path) -> list[Path]:
    """Write stem.csv and, if pyarrow is there, stem.parquet; what is unknown stays empty."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(records)
    written = [stem.with_suffix(".csv")]
    write_atomically(written[0], text.getvalue().encode())
    try:
        pyarrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        print('no Parquet without pyarrow: pip install -e ".[studies]"')
        return written
    table = pyarrow.table({name: [each.get(name) for each in records] for name in columns})
    out = io.BytesIO()
    parquet.write_table(table, out)
    written.append(stem.with_suffix(".parquet"))
    write_atomically(written[1], out.getvalue())
    return written
