"""Figure 1 of the SOPS paper: broadcast coverage over population and time, of four kinds of graph.

    graphs × populations -> coverage after S = ceil(c log2 N) rounds -> CSV, Markdown, heat maps

The paper names neither populations, nor time scales, nor the density of its random graphs. Here
random graphs come twice: with the expected degree of the exponential graph, ceil(log2 N), so that
all of them may send the same number of messages, and with the four neighbours of the torus.

Dimension key: G = graphs, N = populations, C = time scales, S = rounds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import dacite
import numpy as np
from numpy.typing import NDArray

from configs import streams
from configs.arrays import BoolArray
from configs.errors import UserError
from configs.streams import Role
from learner.studies.diagnostics.broadcast import (
    broadcast,
    budget_of,
    exponential_adjacency,
    neighbours_of,
    random_adjacency,
    rounds_of,
    torus_adjacency,
)
from learner.studies.figure_style import canvas
from learner.studies.tables import write_records

if TYPE_CHECKING:
    from learner.studies.analysis import Finished


class _Kind(NamedTuple):
    """A kind of graph."""

    title: str
    make: Callable[[int], BoolArray] | None = None
    """From the population."""
    degree: Callable[[int], float] | None = None
    """Expected degree of a random graph, from the population."""

    def graph(self, num_agents: int, rng: np.random.Generator) -> BoolArray:
        """[N, N] the graph, or one of them."""
        if self.degree is not None:
            return random_adjacency(num_agents, self.degree(num_agents), rng)
        assert self.make is not None
        return self.make(num_agents)


def _as_torus(_num_agents: int) -> float:
    return 4.0


KINDS = {
    "exponential": _Kind("exponential", make=exponential_adjacency),
    "er": _Kind("Erdős–Rényi, mean degree K(N)", degree=budget_of),
    "er-4": _Kind("Erdős–Rényi, mean degree 4", degree=_as_torus),
    "torus": _Kind("torus", make=torus_adjacency),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class BroadcastOptions:
    """Which cells, and over how much chance they are averaged."""

    populations: tuple[int, ...] = (16, 20, 42, 64, 81, 100, 121, 256, 512, 1024)
    time_scales: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
    sources: int = 16
    """Agents that begin, drawn anew for every graph."""
    resamples: int = 32
    """Random graphs of each kind and population."""
    seed: int = 0


class Cell(NamedTuple):
    """One cell of a heat map."""

    graph: str
    agents: int
    budget: int
    """K, contacts of an informed agent in a round."""
    mean_degree: float
    """Realised, over agents and graphs."""
    time_scale: float
    rounds: int
    coverage: float
    """Share of informed agents, mean over graphs and sources."""
    error: float
    """Standard error of the mean over graphs; 0 where all graphs of the kind are one."""
    graphs: int
    sources: int


def study(study: "Finished") -> str:
    """A study's step. Options: those of `BroadcastOptions`.

    Raises:
        UserError: it has no such option.
    """
    try:
        options = dacite.from_dict(
            BroadcastOptions, dict(study.options), dacite.Config(strict=True, cast=[tuple])
        )
    except dacite.DaciteError as error:
        raise UserError(f"{study.name}: {error}") from error
    found = cells(options)
    write_records([cell._asdict() for cell in found], study.folder / "broadcast")
    draw(found, study.folder / "broadcast.png")
    return (
        f"Share of informed agents after S = ceil(c log2 N) rounds of up to ceil(log2 N) contacts; "
        f"means over {options.sources} sources, of each of {options.resamples} graphs where they "
        f"are random; seed {options.seed}.\n\n![broadcast coverage](broadcast.png)\n\n"
        f"{table(found)}"
    )


def cells(options: BroadcastOptions) -> list[Cell]:
    """All of them, graph by graph, population by population; the seed decides every figure."""
    return [
        cell
        for number, kind in enumerate(KINDS)
        for agents in options.populations
        for cell in _column(
            kind,
            streams.generator(options.seed, Role.BROADCAST, graph=number, agents=agents),
            agents,
            options,
        )
    ]


def _column(
    name: str, rng: np.random.Generator, agents: int, options: BroadcastOptions
) -> list[Cell]:
    """The cells of one kind and population: one broadcast serves all time scales."""
    kind = KINDS[name]
    budget = budget_of(agents)
    rounds_C = [rounds_of(agents, scale) for scale in options.time_scales]
    coverage_by_graph: list[NDArray[np.float64]] = []
    degrees: list[float] = []
    for _ in range(options.resamples if kind.degree else 1):
        adjacency_NN = kind.graph(agents, rng)
        neighbours_ND = neighbours_of(adjacency_NN)
        degrees.append(float(adjacency_NN.sum(axis=1).mean()))
        sources = rng.choice(agents, size=min(options.sources, agents), replace=False)
        shares = [
            broadcast(neighbours_ND, int(source), budget, max(rounds_C), rng) for source in sources
        ]
        coverage_by_graph.append(np.mean(shares, axis=0)[rounds_C])
    coverage_GC = np.array(coverage_by_graph)
    graphs = len(coverage_GC)
    error_C = coverage_GC.std(axis=0, ddof=1) / graphs**0.5 if graphs > 1 else 0 * coverage_GC[0]
    return [
        Cell(
            graph=name,
            agents=agents,
            budget=budget,
            mean_degree=float(np.mean(degrees)),
            time_scale=scale,
            rounds=rounds,
            coverage=float(coverage_GC[:, place].mean()),
            error=float(error_C[place]),
            graphs=graphs,
            sources=min(options.sources, agents),
        )
        for place, (scale, rounds) in enumerate(zip(options.time_scales, rounds_C, strict=True))
    ]


def table(found: Sequence[Cell]) -> str:
    """A table for each kind of graph, as Markdown: time scales by populations."""
    return "\n\n".join(_table_of(name, found) for name in KINDS)


def _table_of(name: str, found: Sequence[Cell]) -> str:
    by_place = {(c.time_scale, c.agents): c for c in found if c.graph == name}
    scales = sorted({scale for scale, _ in by_place})
    populations = sorted({agents for _, agents in by_place})
    heads = " | ".join(f"N={n}" for n in populations)
    lines = [f"{KINDS[name].title}", "", f"| c | {heads} |", "|---" * (len(populations) + 1) + "|"]
    for scale in scales:
        row = " | ".join(f"{by_place[scale, n].coverage:.2f}" for n in populations)
        lines.append(f"| {scale:g} | {row} |")
    return "\n".join(lines)


def draw(found: Sequence[Cell], out: Path) -> None:
    """A heat map for each kind of graph."""
    with canvas(out, 2, 2, size=(5.4, 3.6)) as panels:
        for axes, (name, kind) in zip(panels, KINDS.items(), strict=True):
            of_kind = [cell for cell in found if cell.graph == name]
            populations = sorted({cell.agents for cell in of_kind})
            scales = sorted({cell.time_scale for cell in of_kind})
            coverage_CN = np.zeros((len(scales), len(populations)))
            for cell in of_kind:
                row, column = scales.index(cell.time_scale), populations.index(cell.agents)
                coverage_CN[row, column] = cell.coverage
                axes.text(
                    column,
                    row,
                    f"{cell.coverage:.2f}",
                    ha="center",
                    va="center",
                    fontsize=7.0,
                    # The map is dark at its low end.
                    color="black" if cell.coverage > 0.55 else "white",
                )
            axes.grid(visible=False)
            axes.imshow(coverage_CN, cmap="cividis", vmin=0.0, vmax=1.0, aspect="auto")
            axes.set_title(kind.title)
            axes.set_xticks(range(len(populations)), [f"{n}" for n in populations])
            axes.set_yticks(range(len(scales)), [f"{scale:g}" for scale in scales])
            axes.set_xlabel("agents N")
            axes.set_ylabel("time scale c")
