"""What the cells of a study have come to, as numbers by name.

    summary.json, evaluation-*.json, episodes.jsonl of each cell -> Measured: one per evaluation
    Measured of several seeds                                    -> Row: an Interval per figure

Names: return, win_rate, headline (the task's own), auc (of the headline over the tests during
training), test (the headline in the last of them), played (the return of the last 100 episodes
that were trained on, where a guide acts if there is one), out_degree, open_share, edge_bytes (per
agent-step), each metric of the environment, and of the training update_s, wall_s, version_bytes,
sparsity, model_size, training_flops and inference_flops.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from configs.algorithms.described import traits_of
from learner.studies.auc import area_under_curve
from learner.studies.cells import Evaluation, State
from learner.studies.headline import headline_of
from learner.studies.intervals import Interval, over_seeds
from learner.studies.plan import Job
from learner.studies.plot import read_evaluations, return_of_training
from learner.studies.study import Numbers, Task

_OF_EVALUATION = {
    "return": "return_mean",
    "win_rate": "win_rate",
    "out_degree": "out_degree_mean",
    "open_share": "open_share",
    "edge_bytes": "edge_bytes_per_agent_step",
}
_OF_TRAINING = {
    "env_steps": "env_steps",
    "update_s": "learner_update_s_mean",
    "version_bytes": "version_bytes_mean",
    "sparsity": "sparsity",
    "model_size": "model_size",
    "training_flops": "training_flops",
    "inference_flops": "inference_flops",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One evaluation of one cell."""

    task: str
    """With @SIZE after a transfer, and `vs` where several opponents were met."""
    arm: str
    seed: int
    figures: Mapping[str, float]
    job: Job
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class Row:
    """One evaluation of an arm, over its seeds."""

    task: str
    arm: str
    seeds: tuple[int, ...]
    figures: Mapping[str, Interval]


def headline(task: Task) -> str:
    """Name of the figure that curves and AUC are of."""
    return task.figure or headline_of(task.env)


def measure(jobs: Iterable[Job], tasks: Mapping[str, Task]) -> list[Measured]:
    """Everything that is complete."""
    found: list[Measured] = []
    for job in jobs:
        if job.cell.standing(job.wanted).state is State.DONE:
            name = headline(tasks[job.task])
            training = _of_training(job, name)
            if traits_of(job.config.learner).centralised:  # it left nothing to evaluate
                own = training | ({"headline": training["test"]} if "test" in training else {})
                found.append(Measured(job.task, job.arm, job.seed, own, job, Evaluation()))
            for number, evaluation in enumerate(job.wanted.evaluations):
                own = _of_evaluation(job.cell.evaluation(evaluation))
                own |= {"headline": own[name]} if name in own else {}
                own |= {} if number else training
                label = label_of(job, evaluation)
                found.append(Measured(label, job.arm, job.seed, own, job, evaluation))
    return found


def label_of(job: Job, evaluation: Evaluation) -> str:
    """The task's name, with the size and the opponent where these tell evaluations apart."""
    opponents = {each.opponent for each in job.wanted.evaluations}
    size = f"@{evaluation.agents}" if evaluation.agents else ""
    return f"{job.task}{size}{f' vs {evaluation.opponent}' if len(opponents) > 1 else ''}"


def _of_evaluation(printed: Mapping[str, Any]) -> dict[str, float]:
    known = {name: printed.get(key) for name, key in _OF_EVALUATION.items()}
    known |= printed.get("metrics", {})
    return {name: float(value) for name, value in known.items() if value is not None}


def _of_training(job: Job, headline_name: str) -> dict[str, float]:
    summary = job.cell.summary()
    known = {name: summary.get(key) for name, key in _OF_TRAINING.items()}
    known["wall_s"] = job.cell.seconds()
    tests = read_evaluations(job.cell.policy().parent)
    figure = headline_name.replace("_", " ") if headline_name == "win_rate" else headline_name
    steps = [float(each.env_steps) for each in tests]
    reached = [each.reached(figure) for each in tests]
    known["auc"] = area_under_curve(steps, reached)
    known["test"] = reached[-1] if reached else None
    known["played"] = return_of_training(job.cell.policy().parent)
    return {name: float(value) for name, value in known.items() if value is not None}


def rows_of(measured: Iterable[Measured]) -> list[Row]:
    """A row for each evaluation of an arm, in the order in which they come."""
    grouped: dict[tuple[str, str], list[Measured]] = {}
    for each in measured:
        grouped.setdefault((each.task, each.arm), []).append(each)
    return [_row(task, arm, own) for (task, arm), own in grouped.items()]


def _row(task: str, arm: str, own: Sequence[Measured]) -> Row:
    names = dict.fromkeys(name for each in own for name in each.figures)
    figures: dict[str, Interval] = {}
    for name in names:
        interval = over_seeds([each.figures[name] for each in own if name in each.figures])
        if interval is not None:
            figures[name] = interval
    return Row(task, arm, tuple(sorted(each.seed for each in own)), figures)


def in_paper(paper: Numbers, figure: str, task: str, arm: str) -> tuple[float | None, float | None]:
    """The paper's mean and spread, as far as it has them."""
    value = paper.get(figure, {}).get(task.partition(" vs ")[0], {}).get(arm)
    if value is None:
        return None, None
    mean, *spread = cast("list[float]", value) if isinstance(value, list) else [value]
    return float(mean), float(spread[0]) if spread else None
