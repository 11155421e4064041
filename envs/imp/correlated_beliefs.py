"""What is known of components whose first cracks depend on a factor that they share.

    damage given the factor [C, F], belief about the factor [C]
    what an inspection finds -> the component's damage, and the factor by its likelihood
    -> so what one inspection shows changes the belief about every component

Dimension key: E = episodes at once, N = components, C = bins of the factor, F = bins of damage,
X = inspected components of all episodes.
"""

import numpy as np

from configs.arrays import IntArray
from envs.imp.actions import INSPECT, REPAIR
from envs.imp.beliefs import Step, deteriorated, is_found
from envs.imp.deterioration import Deterioration, RealArray


class CorrelatedBeliefs:
    """Components of one level that share a factor."""

    def __init__(self, model: Deterioration, num_components: int) -> None:
        assert model.correlation is not None
        self._correlation = model.correlation
        self._transition_RFF = model.transition_LRFF[0]
        self._detection_F = model.detection_LF[0]
        self._outcome_2F = np.stack((1.0 - self._detection_F, self._detection_F))
        self._initial_F = model.initial_LF[0]
        self._num_components = num_components
        self.begin(1)

    @property
    def factor_EC(self) -> RealArray:
        return self._factor_EC

    def begin(self, episodes: int) -> None:
        shape = (episodes, self._num_components)
        of = self._correlation
        self._given_ENCF = np.broadcast_to(of.initial_CF, (*shape, *of.initial_CF.shape))
        self._factor_EC = np.repeat(of.prior_C[None], episodes, axis=0)
        self.belief_ENF = np.broadcast_to(self._initial_F, (*shape, len(self._initial_F)))
        self.rate_EN: IntArray = np.zeros(shape, dtype=np.int64)

    def step(self, actions_EN: IntArray, uniforms_EN: RealArray) -> Step:
        inspected_EN, repaired_EN = actions_EN == INSPECT, actions_EN == REPAIR
        before_EN = self.belief_ENF[..., -1]
        given_ENCF = deteriorated(self._given_ENCF, self.rate_EN, self._transition_RFF)
        given_ENCF[repaired_EN] = self._correlation.repaired_CF

        episode, component = np.nonzero(inspected_EN)
        grown_XCF = given_ENCF[episode, component]
        # All inspections of a step are drawn from what was known before it, as in IMP-MARL.
        belief_XF = (self._factor_EC[episode][:, None] @ grown_XCF)[:, 0]
        found_X = is_found(belief_XF @ self._detection_F, uniforms_EN[episode, component])
        found_EN = np.zeros(actions_EN.shape, dtype=np.bool_)
        found_EN[episode, component] = found_X

        seen_XCF = grown_XCF * self._outcome_2F[found_X.astype(np.int64)][:, None]
        likelihood_XC: RealArray = seen_XCF.sum(-1)
        given_ENCF[episode, component] = seen_XCF / likelihood_XC[..., None]
        self._learn(episode, likelihood_XC)

        self._given_ENCF = given_ENCF
        self.belief_ENF = (self._factor_EC[:, None, None] @ given_ENCF)[:, :, 0]
        self.rate_EN = np.where(repaired_EN, 0, self.rate_EN + 1)
        after_EN = self.belief_ENF[..., -1].copy()
        after_EN[episode, component] = belief_XF[:, -1]
        return Step(before_EN, after_EN, found_EN)

    def _learn(self, episode_X: IntArray, likelihood_XC: RealArray) -> None:
        """Bayes' rule for the factor, by all inspections of each episode."""
        log_EC = np.zeros_like(self._factor_EC)
        # In logarithms: a hundred small likelihoods multiply to nothing.
        np.add.at(log_EC, episode_X, np.log(likelihood_XC))
        weight_EC = self._factor_EC * np.exp(log_EC - log_EC.max(-1, keepdims=True))
        self._factor_EC = weight_EC / weight_EC.sum(-1, keepdims=True)
