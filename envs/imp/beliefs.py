"""What is known of components that deteriorate independently of each other.

belief -> a year of deterioration, or a repair -> Bayes' rule where there was an inspection

Dimension key: E = episodes at once, N = components, F = bins of damage, L = levels, R = rates.
"""

from typing import NamedTuple, Protocol

import numpy as np

from configs.arrays import BoolArray, IntArray
from envs.imp.actions import INSPECT, REPAIR
from envs.imp.deterioration import Deterioration, RealArray

IMPOSSIBLE = 1e-5
"""Damage that is found with a smaller chance is never found (as in IMP-MARL)."""


class Step(NamedTuple):
    """What a step brought to the components."""

    before_EN: RealArray
    """[E, N] failure probabilities at its beginning."""
    after_EN: RealArray
    """[E, N] the same at its end; of an inspected component without what was seen of it."""
    found_EN: BoolArray
    """[E, N] whether an inspection has found damage."""


class Beliefs(Protocol):
    """Beliefs in E episodes at once."""

    belief_ENF: RealArray
    """[E, N, F]"""
    rate_EN: IntArray
    """[E, N] steps since a component was new or repaired."""

    @property
    def factor_EC(self) -> RealArray:
        """[E, C] belief about the factor that components share; C is 0 where there is none."""
        ...

    def begin(self, episodes: int) -> None:
        """Start so many episodes."""
        ...

    def step(self, actions_EN: IntArray, uniforms_EN: RealArray) -> Step:
        """Let a year pass.

        Args:
            uniforms_EN: chance, in [0, 1): an inspection finds damage if its number is less than
                the probability of that.
        """
        ...


class IndependentBeliefs:
    """Components that say nothing about each other."""

    def __init__(self, model: Deterioration, level_N: IntArray) -> None:
        """Know as much of each component as its level says."""
        self._model = model
        self._level_N = level_N
        self._initial_NF = model.initial_LF[level_N]
        self._detection_NF = model.detection_LF[level_N]
        self._transition_XFF = model.transition_LRFF.reshape(-1, model.num_bins, model.num_bins)
        self.begin(1)

    @property
    def factor_EC(self) -> RealArray:
        return np.zeros((len(self.belief_ENF), 0))

    def begin(self, episodes: int) -> None:
        self.belief_ENF = np.repeat(self._initial_NF[None], episodes, axis=0)
        self.rate_EN: IntArray = np.zeros(self.belief_ENF.shape[:2], dtype=np.int64)

    def step(self, actions_EN: IntArray, uniforms_EN: RealArray) -> Step:
        inspected_EN, repaired_EN = actions_EN == INSPECT, actions_EN == REPAIR
        before_EN = self.belief_ENF[..., -1]
        which_EN = self._level_N * self._model.num_rates + self.rate_EN
        belief_ENF = deteriorated(self.belief_ENF, which_EN, self._transition_XFF)
        episode, component = np.nonzero(repaired_EN)
        belief_ENF[episode, component] = self._initial_NF[component]
        after_EN = belief_ENF[..., -1].copy()

        found_EN = np.zeros(actions_EN.shape, dtype=np.bool_)
        episode, component = np.nonzero(inspected_EN)
        detection_XF, grown_XF = self._detection_NF[component], belief_ENF[episode, component]
        found_X = is_found((grown_XF * detection_XF).sum(-1), uniforms_EN[episode, component])
        seen_XF = grown_XF * np.where(found_X[:, None], detection_XF, 1.0 - detection_XF)
        belief_ENF[episode, component] = seen_XF / seen_XF.sum(-1, keepdims=True)
        found_EN[episode, component] = found_X

        self.belief_ENF = belief_ENF
        self.rate_EN = np.where(repaired_EN, 0, self.rate_EN + 1)
        return Step(before_EN, after_EN, found_EN)


def is_found(chance_X: RealArray, uniforms_X: RealArray) -> BoolArray:
    """Whether inspections find damage."""
    return (uniforms_X < chance_X) & (chance_X >= IMPOSSIBLE)


def deteriorated(beliefs: RealArray, which_EN: IntArray, transition_XFF: RealArray) -> RealArray:
    """Beliefs [E, N, …, F] a step later, by the transition that each component has.

    Components of the same transition are one product: most are of the same age.
    """
    kinds = np.unique(which_EN)
    if len(kinds) == 1:
        return beliefs @ transition_XFF[kinds[0]]
    later = np.empty_like(beliefs)
    for which in kinds:
        same_EN = which_EN == which
        later[same_EN] = beliefs[same_EN] @ transition_XFF[which]
    return later
