"""What is known of the graphs of one policy in one population; kept in a file, measured once.

    Subject, population -> greedy episodes (realised.py) -> out-degree, coverage, activation
                                                         -> FOLDER/graphs-<what>.npz

Dimension key: E = episodes, N = agents, K = out-edges, L = numbers of hops (`coverage.HOPS`).
"""

import hashlib
import io
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.policy import write_atomically
from configs import streams
from configs.arrays import BoolArray, IntArray
from configs.streams import Role
from learner.studies.diagnostics.coverage import (
    coverage,
    coverage_over_time,
    open_graph,
    out_degree,
    random_graph,
    whole_graph,
)
from learner.studies.diagnostics.persistence import Activation
from learner.studies.diagnostics.realised import RealisedEpisode, realise
from learner.studies.diagnostics.subjects import Subject


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredGraphs:
    """Of greedy episodes."""

    offsets: IntArray
    """[K]"""
    opened_NK: IntArray
    allowed_NK: IntArray
    """Steps in which an edge was open, and in which it could have been."""
    out_degree_E: NDArray[np.float64]
    coverage_EL: NDArray[np.float64]
    """Within a step."""
    over_time_EL: NDArray[np.float64]
    """Over successive steps."""
    whole_EL: NDArray[np.float64]
    """Within a step, if all edges between living agents were open."""
    random_EL: NDArray[np.float64]
    """Within a step, if as many edges as are open lay between pairs drawn at random."""
    length_E: IntArray
    """Steps."""
    won_E: BoolArray
    return_E: NDArray[np.float64]

    @property
    def activation(self) -> Activation:
        offsets = tuple(self.offsets.tolist())
        return Activation(offsets, self.opened_NK, self.allowed_NK, int(self.length_E.sum()))


def measure(subject: Subject, agents: int, episodes: int, folder: Path) -> MeasuredGraphs:
    """Play the policy in a population of that size, unless it has been done.

    Raises:
        UserError, ValueError: the policy cannot be read, or not play there.
    """
    config, policy = subject.resolve(agents, episodes)
    # All that the figures follow from, beside this code.
    words = (config.env, config.gate, config.agents, config.comm, config.seed, episodes)
    key = hashlib.sha256(repr(words).encode() + policy.flat.tobytes()).hexdigest()[:16]
    path = folder / f"graphs-{subject.task}-{subject.arm}-{subject.seed}-at-{agents}-{key}.npz"
    if path.is_file():
        return _read(path)
    realised = realise(config, policy, episodes)
    rng = streams.generator(config.seed, Role.RANDOM_EDGES, agents=agents)
    of_episodes = [_of_episode(each, realised.offsets, rng) for each in realised.episodes]
    degrees, within, over_time, whole, random = zip(*of_episodes, strict=True)
    activation = Activation.of(realised.episodes, realised.offsets)
    measured = MeasuredGraphs(
        offsets=np.array(realised.offsets),
        opened_NK=activation.opened_NK,
        allowed_NK=activation.allowed_NK,
        out_degree_E=np.array(degrees),
        coverage_EL=np.array(within),
        over_time_EL=np.array(over_time),
        whole_EL=np.array(whole),
        random_EL=np.array(random),
        length_E=np.array([result.length for result in realised.results]),
        won_E=np.array([result.won for result in realised.results]),
        return_E=np.array([result.episode_return for result in realised.results]),
    )
    _write(measured, path)
    return measured


def _of_episode(
    episode: RealisedEpisode, offsets: tuple[int, ...], rng: np.random.Generator
) -> tuple[float | NDArray[np.float64], ...]:
    graph_TNN, alive_TN = open_graph(episode, offsets), episode.alive_TN
    return (
        out_degree(episode),
        coverage(graph_TNN, alive_TN),
        coverage_over_time(graph_TNN, alive_TN),
        coverage(whole_graph(episode, offsets), alive_TN),
        coverage(random_graph(graph_TNN, episode.takes_part_TN, rng), alive_TN),
    )


def _write(measured: MeasuredGraphs, path: Path) -> None:
    file = io.BytesIO()
    arrays = {each.name: getattr(measured, each.name) for each in fields(measured)}
    np.savez_compressed(file, **arrays)
    write_atomically(path, file.getvalue())


def _read(path: Path) -> MeasuredGraphs:
    with np.load(path) as arrays:
        return MeasuredGraphs(**{each.name: arrays[each.name] for each in fields(MeasuredGraphs)})
