"""What a study has come to: tables, pictures and the steps of analysis, of whatever is complete.

jobs -> measured -> rows -> table.md, table.csv, cells.csv, curves.png, points.png, …
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agents.policy import write_atomically
from configs.errors import UserError
from learner.studies.analysis import analyse
from learner.studies.cells import State
from learner.studies.figures import Measured, Row, headline, measure, rows_of
from learner.studies.intervals import Interval, over_scenarios
from learner.studies.plan import Job, Plan, Refusal, Request, scale_of
from learner.studies.study import Study
from learner.studies.study_plot import draw_all
from learner.studies.tables import (
    cell_records,
    markdown,
    notes,
    overall_markdown,
    records_of,
    write_records,
)


def standings(study: Study, plan: Plan) -> list[str]:
    """A line for each cell, and one for all."""
    lines: list[str] = []
    counts = dict.fromkeys(State, 0)
    width = max((len(job.label) for job in plan.jobs), default=0)
    for job in plan.jobs:
        standing = job.cell.standing(job.wanted)
        counts[standing.state] += 1
        far = f", {standing.env_steps:,} of {job.wanted.steps:,} steps"
        why = job.cell.failure
        lines.append(
            f"{job.label:<{width}}  {standing.state.value}"
            f"{far if standing.state is State.HALF_DONE else ''}{f' ({why})' if why else ''}"
        )
    lines += [f"{each.task}, {each.arm}: cannot run: {each.why}" for each in plan.refusals]
    total = [f"{count} {state.value}" for state, count in counts.items() if count]
    total += [f"{len(plan.refusals)} cannot run"] if plan.refusals else []
    return [*lines, f"{study.name}: {', '.join(total) or 'no cells'}"]


def report(
    study: Study, request: Request, plan: Plan, folder: Path, *, analyses: bool = True
) -> None:
    """Write everything; nothing but the reasons if nothing is complete.

    Args:
        analyses: run the steps of analysis, which may take minutes.

    Raises:
        UserError, ValueError: a step of analysis cannot do its work.
    """
    headlines = {name: headline(task) for name, task in study.tasks.items()}
    measured = measure(plan.jobs, study.tasks)
    rows = rows_of(measured)
    texts = [f"# {study.title}", "", _about(study, request, plan.jobs)]
    if rows:
        write_records(records_of(rows, study.paper), folder / "table")
        write_records(cell_records(measured), folder / "cells")
        draw_all(study, measured, rows, headlines, folder)
        texts += [markdown(rows, study.report, study.paper, headlines)]
        texts += [_over_scenarios(rows, measured, headlines), notes(study.arms)]
    if analyses:
        scale = scale_of(study, request)
        for text in analyse(study, scale, request.scale, folder, plan.jobs):
            texts += ["", text]
    texts += [_missing(plan.jobs, plan.refusals)]
    text = "\n".join(texts).rstrip() + "\n"
    write_atomically(folder / "table.md", text.encode())
    print(text)
    print(f"in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def _over_scenarios(
    rows: Sequence[Row], measured: Sequence[Measured], headlines: Mapping[str, str]
) -> str:
    try:
        return overall_markdown(overall(rows, measured, headlines))
    except UserError as error:  # no rliable: the rest is worth as much without it
        return f"\nNot in the tables: {error}"


def _episodes_of(drawn: set[bool]) -> str:
    """
    Args:
        drawn: whether trainings are evaluated with actions that are drawn.
    """
    if len(drawn) > 1:
        return "episodes, of each arm with drawn actions or with the best ones"
    return "episodes with drawn actions" if True in drawn else "greedy episodes"


def _about(study: Study, request: Request, jobs: Sequence[Job]) -> str:
    lines = [f"Study `{study.name}` at scale {request.scale}."]
    if study.reproduces:
        lines.append(f"Reproduces {study.reproduces}.")
    if jobs:
        steps = sorted({job.wanted.steps for job in jobs})
        episodes = sorted({job.wanted.episodes for job in jobs})
        drawn = {job.config.evaluation.sampled for job in jobs}
        best = any(each.best for job in jobs for each in job.wanted.evaluations)
        final = (
            f", final evaluations of {', '.join(map(str, episodes))} "
            f"{_episodes_of(drawn)}"
            f"{', by the policy that did best in a test during training' if best else ''}"
        )
        lines.append(
            f"Trainings of {', '.join(f'{n:,}' for n in steps)} steps"
            f"{final if any(episodes) else ''}. "
            "± is half of a 95 % interval over seeds (Student's t)."
        )
    if study.paper and study.spread:
        lines.append(f"The paper's ± is the {study.spread}.")
    if study.differs:
        lines += ["", f"Other than in the paper: {study.differs.strip()}"]
    return "\n".join(lines)


def _missing(jobs: Sequence[Job], refusals: Sequence[Refusal]) -> str:
    """What is not in the tables, and why."""
    lines = [f"- {each.task}, {each.arm}: cannot run: {each.why}" for each in refusals]
    seeds: dict[str, list[int]] = {}
    for job in jobs:
        standing = job.cell.standing(job.wanted)
        if standing.state is not State.DONE:
            why = f" ({job.cell.failure})" if job.cell.failure else ""
            line = f"{job.task}, {job.arm}: {standing.state.value}{why}"
            seeds.setdefault(line, []).append(job.seed)
    lines += [f"- {line}; seeds {' '.join(map(str, own))}" for line, own in seeds.items()]
    return "\n".join(["", "Not in the tables:", "", *lines]) if lines else ""


def overall(
    rows: Sequence[Row], measured: Sequence[Measured], headlines: Mapping[str, str]
) -> dict[str, dict[str, Interval]]:
    """Interquartile means over the scenarios that share a headline figure, where every arm has been
    trained on all of them with the same number of seeds, two at least.
    """
    by_figure: dict[str, list[str]] = {}
    for row in rows:
        if row.task in headlines:  # at the trained size, against one opponent
            tasks = by_figure.setdefault(headlines[row.task], [])
            tasks += [] if row.task in tasks else [row.task]
    found: dict[str, dict[str, Interval]] = {}
    for figure, tasks in by_figure.items():
        arms = dict.fromkeys(row.arm for row in rows if row.task in tasks)
        scores: dict[str, list[list[float]]] = {
            arm: [
                [
                    each.figures["headline"]
                    for each in measured
                    if (each.task, each.arm) == (task, arm)
                ]
                for task in tasks
            ]
            for arm in arms
        }
        lengths = {len(seeds) for columns in scores.values() for seeds in columns}
        if len(tasks) > 1 and len(lengths) == 1 and min(lengths) > 1:
            found[figure] = over_scenarios(
                {arm: np.array(columns).T for arm, columns in scores.items()}
            )
    return found
