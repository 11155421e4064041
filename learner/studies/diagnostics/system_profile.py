"""Table 8 of the SOPS paper: what a training costs, by the number of agents.

    trained cells -> summary.json: environment steps/s, out-degree, bytes -> profile.csv, Markdown
                     memory.json:  PSS, the learner's RSS
                     journal:      activations of an update, GPU memory

Memory is in GB of 10^9 bytes. What is not known is a dash: never a row less.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from configs.errors import UserError
from configs.load import read_resolved
from learner.studies.diagnostics.activations import activations_of
from learner.studies.figures import Row, in_paper
from learner.studies.intervals import Interval, over_seeds
from learner.studies.study import Numbers
from learner.studies.tables import records_of, write_records

if TYPE_CHECKING:
    from learner.studies.analysis import Finished, FinishedCell

Figures = dict[str, float]

_GB_PER_MIB = 1024**2 / 1e9
_OF_SUMMARY = {
    "copies": "env_copies",
    "steps_per_s": "env_steps_per_s",
    "out_degree": "out_degree_mean",
    "edge_bytes": "edge_bytes_per_agent_step",
    "updates": "learner_updates",
}
_COLUMNS = {
    "copies": "E",
    "processes": "processes",
    "out_degree": "out-degree",
    "steps_per_s": "steps/s",
    "learner_gb": "learner RSS, GB",
    "pss_gb": "PSS of all, GB",
    "gpu_gb": "GPU, GB",
    "activation_gb": "activations, GB",
    "at_once_gb": "of them at once, GB",
    "edge_bytes": "bytes per agent-step",
}


def study(study: "Finished") -> str:
    """A study's step. The study looks at memory (`memory: true`)."""
    found: dict[tuple[str, str], list[tuple[int, Figures]]] = {}
    remarks: list[str] = []
    for cell in study.cells:
        print(f"{cell.task}, {cell.arm}, seed {cell.seed}: profile", flush=True)
        figures, missing = figures_of(cell)
        found.setdefault((cell.task, cell.arm), []).append((cell.seed, figures))
        remarks += [f"- {cell.task}, {cell.arm}, seed {cell.seed}: {why}" for why in missing]
    rows = [_row(task, arm, own) for (task, arm), own in found.items()]
    write_records(records_of(rows, study.paper), study.folder / "profile")
    return markdown(rows, study.paper, remarks)


def figures_of(cell: "FinishedCell") -> tuple[Figures, list[str]]:
    """What a training has cost, by name, and a line for each thing that nobody knows."""
    summary, memory = cell.cell.summary(), cell.cell.memory()
    known = {name: summary.get(key) for name, key in _OF_SUMMARY.items()}
    figures = {name: float(value) for name, value in known.items() if value is not None}
    missing: list[str] = []
    is_one_process = read_resolved(cell.run)[0].runtime.serial
    if is_one_process:
        figures["edge_bytes"] = 0.0  # nothing leaves the process
        missing.append("one process, so its steps/s are not those of agents that run apart")
    figures |= _of_memory(memory)
    if not memory:
        missing.append("nobody looked at its memory while it was trained")
    elif "pss_mb" not in memory:
        missing.append("no PSS: some of its processes may not be looked at")
    try:
        activations = activations_of(cell.run)
    except (UserError, ValueError, torch.OutOfMemoryError) as error:
        missing.append(f"no activations: {' '.join(str(error).split())}")
        return figures, missing
    figures["activation_gb"] = activations.update_bytes / 1e9
    figures["at_once_gb"] = activations.at_once_bytes / 1e9
    if activations.peak_gpu_bytes is not None:
        figures["gpu_gb"] = activations.peak_gpu_bytes / 1e9
    return figures, missing


def _of_memory(memory: Mapping[str, float]) -> Figures:
    names = {"pss_mb": "pss_gb", "learner_rss_mb": "learner_gb"}
    figures = {new: memory[old] * _GB_PER_MIB for old, new in names.items() if old in memory}
    return figures | {name: memory[name] for name in ("processes",) if name in memory}


def _row(task: str, arm: str, own: Sequence[tuple[int, Figures]]) -> Row:
    names = dict.fromkeys(name for _, figures in own for name in figures)
    intervals: dict[str, Interval] = {}
    for name in names:
        interval = over_seeds([figures[name] for _, figures in own if name in figures])
        if interval is not None:
            intervals[name] = interval
    return Row(task, arm, tuple(sorted(seed for seed, _ in own)), intervals)


def markdown(rows: Sequence[Row], paper: Numbers, remarks: Sequence[str]) -> str:
    """Table 8, the paper's numbers behind ours, and what is not in it."""
    printed = {task for by_task in paper.values() for task in by_task}
    beside = {name: name in paper and any(r.task in printed for r in rows) for name in _COLUMNS}
    heads = ["scenario", "arm"]
    for name, title in _COLUMNS.items():
        heads += [title, "paper"] if beside[name] else [title]
    lines = ["### Table 8: what a training costs", "", f"| {' | '.join(heads)} |"]
    lines.append("|---" * len(heads) + "|")
    for row in _with_missing(rows, paper):
        cells = [row.task, row.arm if row.seeds else f"{row.arm} (not run)"]
        for name in _COLUMNS:
            interval = row.figures.get(name)
            cells.append("–" if interval is None else _short(interval.mean))
            if beside[name]:
                theirs, _ = in_paper(paper, name, row.task, row.arm)
                cells.append("–" if theirs is None else f"{theirs:g}")
        lines.append(f"| {' | '.join(cells)} |")
    notes: list[Any] = ["", *remarks] if remarks else []
    return "\n".join([*lines, *notes])


def _short(value: float) -> str:
    """Three digits that say something."""
    return f"{value:,.0f}" if abs(value) >= 1000.0 else f"{value:.3g}"


def _with_missing(rows: Sequence[Row], paper: Numbers) -> list[Row]:
    """The rows, and an empty one for each of the paper's that has not been run, if one has."""
    theirs = {
        (task, arm): Row(task, arm, (), {})
        for by_task in paper.values()
        for task, arms in by_task.items()
        for arm in arms
    }
    ours = {(row.task, row.arm): row for row in rows}
    if not theirs.keys() & ours.keys():
        return list(rows)
    others = [row for place, row in ours.items() if place not in theirs]
    return [ours.get(place, row) for place, row in theirs.items()] + others
