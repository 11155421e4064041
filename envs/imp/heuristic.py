"""The expert's rule, by which policies are measured (Leroy et al., 2023, appendix).

    every `interval` steps: inspect the `components` that most likely have failed
    in the step after an inspection that has found damage: repair

    search -> the best interval and number of components -> evaluate -> H, the heuristic's return

Dimension key: E = episodes, T = steps, A = agents.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from configs import streams
from configs.arrays import BoolArray, IntArray
from configs.streams import Role
from envs.imp.actions import INSPECT, NOTHING, REPAIR
from envs.imp.deterioration import RealArray
from envs.imp.systems import DISCOUNT, System

_AT_ONCE = 8
"""Episodes that one batch plays, for the sake of memory and its caches."""
_FIRST_ROUND = 4
"""Episodes of every rule in the first round of a search."""
_KEPT = 4
"""One in so many rules enters the next round, which has so many times the episodes."""
_LAST_ROUND = 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """One of the expert's rules; it repairs what inspections have found damaged."""

    interval: int
    """Steps between inspections; the first comes after so many steps."""
    components: int
    """Inspected each time."""

    def actions(self, step: int, failure_EA: RealArray, found_EA: BoolArray) -> IntArray:
        """[E, A] what to do.

        Args:
            failure_EA: failure probabilities of the agents' components.
            found_EA: which inspections of the last step have found damage.
        """
        actions_EA: IntArray = np.full(failure_EA.shape, NOTHING, dtype=np.int64)
        if step > 0 and step % self.interval == 0:
            worst = np.argsort(-failure_EA, axis=-1, kind="stable")[:, : self.components]
            np.put_along_axis(actions_EA, worst, INSPECT, axis=-1)
        actions_EA[found_EA] = REPAIR
        return actions_EA


class Found(NamedTuple):
    """A rule and what it reaches."""

    rule: Rule
    mean: float
    """Discounted return."""
    error: float
    """Its standard error."""
    episodes: int


def returns(system: System, rule: Rule, episodes: int, seed: int) -> RealArray:
    """[episodes] discounted returns of a rule.

    Episodes of the same seed have the same chances whatever the rule, so that rules differ by less
    noise than their means have.
    """
    parts = [
        _play(system, rule, min(_AT_ONCE, episodes - begin), seed, chunk)
        for chunk, begin in enumerate(range(0, episodes, _AT_ONCE))
    ]
    return np.concatenate(parts)


def evaluate(system: System, rule: Rule, episodes: int, seed: int) -> Found:
    """Play a rule."""
    of_episodes = returns(system, rule, episodes, seed)
    error = float(of_episodes.std(ddof=1) / np.sqrt(episodes)) if episodes > 1 else float("nan")
    return Found(rule, float(of_episodes.mean()), error, episodes)


def search(system: System, seed: int) -> Iterator[list[Found]]:
    """Look for the best rule among all intervals and numbers of components.

    Every rule plays a few episodes, the better quarter plays four times as many, and so on. Yields
    what each round has come to, the best rule first; the first of the last round is the answer.
    Its mean there is flattered by the choice: evaluate it with another seed.
    """
    rules = [
        Rule(interval, components)
        for interval in range(1, system.horizon)
        for components in _numbers(system.num_agents)
    ]
    episodes = _FIRST_ROUND
    while True:
        found = [evaluate(system, rule, episodes, seed) for rule in rules]
        found.sort(key=lambda each: -each.mean)
        yield found
        if len(rules) == 1 or episodes >= _LAST_ROUND:
            return
        rules = [each.rule for each in found[: -(-len(rules) // _KEPT)]]
        episodes *= _KEPT


def _numbers(num_agents: int) -> list[int]:
    """Numbers of components to try: all up to ten, then in steps of a fifth of what they are."""
    numbers = [1]
    while (following := numbers[-1] + max(1, numbers[-1] // 5)) < num_agents:
        numbers.append(following)
    return [*numbers, num_agents]


def _play(system: System, rule: Rule, episodes: int, seed: int, chunk: int) -> RealArray:
    rng = streams.generator(seed, Role.IMP_HEURISTIC, chunk=chunk)
    shape = (system.horizon, _AT_ONCE, system.num_agents)
    uniforms_TEA = rng.random(shape)[:, :episodes]
    system.begin(episodes)
    found_EA = np.zeros(uniforms_TEA.shape[1:], dtype=np.bool_)
    total_E = np.zeros(episodes)
    for step, uniforms_EA in enumerate(uniforms_TEA):
        failure_EA = system.agents_beliefs()[..., -1]
        actions_EA = rule.actions(step, failure_EA, found_EA)
        costs, found_EA = system.step(actions_EA, uniforms_EA)
        total_E -= DISCOUNT**step * costs.total_E
    return total_E
