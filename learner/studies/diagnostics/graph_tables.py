"""Tables 6 and 7 of the SOPS paper: the graphs of policies in other populations than their own.

subjects × populations -> MeasuredGraphs -> table 6: out-degree, coverage at 2, 3, 4 hops
                                         -> table 7: persistence of edges against the own size
                                         -> coverage.csv, persistence.csv, Markdown
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from configs import streams
from configs.streams import Role
from learner.studies.diagnostics.coverage import HOPS
from learner.studies.diagnostics.measured_graphs import MeasuredGraphs, measure
from learner.studies.diagnostics.persistence import READINGS, SHARES, jaccard, matched, pearson
from learner.studies.diagnostics.subjects import Subject, subjects_of
from learner.studies.figures import Row, in_paper
from learner.studies.intervals import over_seeds
from learner.studies.study import Numbers, read_study
from learner.studies.tables import records_of, shown, write_records

if TYPE_CHECKING:
    from learner.studies.analysis import Finished

Figures = dict[str, float]

EPISODES = 20
_SHUFFLES = 20

_WITHIN = ("out_degree", *(f"coverage_{hop}" for hop in HOPS))
_READINGS_OF_COVERAGE = {
    "over_time": "over successive steps",
    "whole": "all edges open",
    "random": "as many edges at random",
}
_PERSISTENCE = ("pearson", *(f"jaccard_{share:.0%}".rstrip("%") for share in SHARES))
_READINGS_OF_EDGES = {
    ("sender", "steps"): "by sender and offset, of all steps",
    ("sender", "chances"): "by sender and offset, of the steps in which it could be used",
    ("pair", "steps"): "by sender and receiver with zeros, of all steps",
    (
        "pair",
        "chances",
    ): "by sender and receiver with zeros, of the steps in which it could be used",
}


def study(study: "Finished") -> str:
    """A study's step; option `episodes`: of each policy and population.

    Raises:
        UserError, ValueError: a policy cannot be read, or not play in one of the populations.
    """
    episodes = int(study.options.get("episodes", EPISODES))
    # A study of policies that exist already has no tasks, and borrows the numbers of one that has.
    borrowed = study.options.get("paper_of")
    paper = read_study(str(borrowed)).paper if borrowed else study.paper
    coverages: dict[tuple[str, str], list[tuple[int, Figures]]] = {}
    persistences: dict[tuple[str, str], list[tuple[int, Figures]]] = {}
    for subject in subjects_of(study):
        own = _measured(subject, subject.agents, episodes, study)
        where = (f"{subject.task}@{subject.agents}", subject.arm)
        coverages.setdefault(where, []).append((subject.seed, coverage_figures(own)))
        for agents in subject.sizes:
            other = _measured(subject, agents, episodes, study)
            where = (f"{subject.task}@{agents}", subject.arm)
            coverages.setdefault(where, []).append((subject.seed, coverage_figures(other)))
            compared = persistence_figures(own, other)
            persistences.setdefault(where, []).append((subject.seed, compared))
    covered, persisted = _rows(coverages), _rows(persistences)
    write_records(records_of(covered, paper), study.folder / "coverage")
    write_records(records_of(persisted, paper), study.folder / "persistence")
    return markdown(covered, persisted, paper, episodes)


def _measured(subject: Subject, agents: int, episodes: int, study: "Finished") -> MeasuredGraphs:
    print(f"{subject.task}, {subject.arm}, seed {subject.seed}: graphs of {agents}", flush=True)
    return measure(subject, agents, episodes, study.folder)


def coverage_figures(measured: MeasuredGraphs) -> Figures:
    """Means over episodes, by name."""
    figures = {"out_degree": float(measured.out_degree_E.mean())}
    for place, hop in enumerate(HOPS):
        figures[f"coverage_{hop}"] = float(np.nanmean(measured.coverage_EL[:, place]))
        figures[f"over_time_{hop}"] = float(np.nanmean(measured.over_time_EL[:, place]))
        figures[f"whole_{hop}"] = float(np.nanmean(measured.whole_EL[:, place]))
        figures[f"random_{hop}"] = float(np.nanmean(measured.random_EL[:, place]))
    figures["win_rate"] = float(measured.won_E.mean())
    figures["return"] = float(measured.return_E.mean())
    figures["steps"] = float(measured.length_E.mean())
    return figures


def persistence_figures(own: MeasuredGraphs, other: MeasuredGraphs) -> Figures:
    """By name, in all readings; those of the first have plain names. What is not known is left
    out.
    """
    smaller, larger = (
        each.activation for each in sorted((own, other), key=lambda each: len(each.opened_NK))
    )
    rng = streams.generator(0, Role.SHUFFLED_EDGES)
    elsewhere = [larger.shuffled(rng) for _ in range(_SHUFFLES)]
    figures: Figures = {}
    for matching, of in READINGS:
        suffix = "" if (matching, of) == READINGS[0] else f"_{matching}_{of}"
        x, y = matched(smaller, larger, matching, of)
        figures[f"pearson{suffix}"] = pearson(x, y)
        figures |= {
            f"{name}{suffix}": jaccard(x, y, share)
            for name, share in zip(_PERSISTENCE[1:], SHARES, strict=True)
        }
        by_chance = [pearson(*matched(smaller, each, matching, of)) for each in elsewhere]
        figures[f"shuffled{suffix}"] = float(np.mean(by_chance))
    return {name: value for name, value in figures.items() if not np.isnan(value)}


def _rows(found: Mapping[tuple[str, str], Sequence[tuple[int, Figures]]]) -> list[Row]:
    rows: list[Row] = []
    for (task, arm), of_seeds in found.items():
        names = dict.fromkeys(name for _, figures in of_seeds for name in figures)
        intervals = {
            name: over_seeds([figures[name] for _, figures in of_seeds if name in figures])
            for name in names
        }
        known = {name: each for name, each in intervals.items() if each is not None}
        rows.append(Row(task, arm, tuple(seed for seed, _ in of_seeds), known))
    return rows


def markdown(
    covered: Sequence[Row], persisted: Sequence[Row], paper: Numbers, episodes: int
) -> str:
    """Tables 6 and 7, and under each the other readings of its figures."""
    hops = tuple(f"{hop} hops" for hop in HOPS)
    shares = ("Pearson", *(f"Jaccard {share:.0%}" for share in SHARES), "Pearson, edges shuffled")

    def beside_paper(name: str) -> Callable[[Row], str]:
        def cell(row: Row) -> str:
            number, _ = in_paper(paper, name, row.task, row.arm)
            theirs = "–" if number is None else f"{number:g}"
            return f"{shown(row.figures.get(name))} / {theirs}"

        return cell

    def plain(name: str) -> Callable[[Row], str]:
        return lambda row: shown(row.figures.get(name))

    lines = [
        f"Means over {episodes} greedy episodes, ± half of the 95 % interval over seeds; "
        "ours / the paper's.",
        "",
        "### Table 6: out-degree, and coverage within the graph of a step",
        *_table(covered, ("out-degree", *hops), [beside_paper(name) for name in _WITHIN]),
        "",
        "### The same coverage in other readings",
    ]
    for reading, title in _READINGS_OF_COVERAGE.items():
        cells = [plain(f"{reading}_{hop}") for hop in HOPS]
        lines += ["", title, *_table(covered, hops, cells)]
    lines += ["", "### Table 7: persistence of edges, " + _READINGS_OF_EDGES[READINGS[0]]]
    cells = [*(beside_paper(name) for name in _PERSISTENCE), plain("shuffled")]
    lines += _table(persisted, shares, cells)
    lines += ["", "### The same persistence in other readings"]
    for matching, of in READINGS[1:]:
        cells = [plain(f"{name}_{matching}_{of}") for name in (*_PERSISTENCE, "shuffled")]
        title = _READINGS_OF_EDGES[matching, of]
        lines += ["", title, *_table(persisted, shares, cells)]
    return "\n".join(lines)


def _table(
    rows: Sequence[Row], heads: Sequence[str], cells: Sequence[Callable[[Row], str]]
) -> list[str]:
    """Lines of a Markdown table, a line for each row."""
    lines = [
        "",
        f"| scenario → agents | arm | {' | '.join(heads)} |",
        "|---" * (len(heads) + 2) + "|",
    ]
    for row in rows:
        task, _, agents = row.task.partition("@")
        lines.append(f"| {task} → {agents} | {row.arm} | {' | '.join(c(row) for c in cells)} |")
    return lines
