"""ARM, augment-REINFORCE-merge (Yin and Zhou, 2019), for all gates of an unroll at once.

    d E(L) / d score = E[(L(C) - L(C')) (u - 1/2)]
        C = 1[score + noise > 0],  C' = 1[score - noise > 0],  u = sigmoid(noise) uniform

Where the paper writes 1[u > sigmoid(-score)] and 1[u < sigmoid(score)], these are C and C'. It
follows from REINFORCE on the noisy score, whose slope is 2u - 1: noise and its mirror image are
equally likely, so the mean of both terms has the same expectation, and that is the line above. No
more than this is used of the gates, so it also holds with a budget.

A gate counts more the less it was decided by its score (u far from 1/2), and nothing at all where
both draws come to the same. Costs that the two have in common cancel, whichever baseline would have
found them: with decided gates, which C and C' share, the variance falls as they become decided.
Where many gates differ, each one's slope has the effects of all the others in it, as with REINFORCE
(learner/estimators/score_function.py).

An update unrolls the agents three times, twice without a gradient: for the mirror image, and for
the TD targets, in which neither draw may have a say.
"""

from dataclasses import replace

import torch

from configs.schema import GateConfig
from learner.algorithms.policy_terms import Loss
from learner.estimators.draw import costs_to_go, pushed
from learner.estimators.passes import LossOf, Passes
from learner.experience.part import Divisors, Part


def estimate(loss_of: LossOf, part: Part, divisors: Divisors, gate: GateConfig) -> Loss:
    """A loss with the gradient towards the scores of its gates.

    Args:
        loss_of: an algorithm's, which leaves that to us.
    """
    passes = Passes(loss_of, part, divisors)
    passes.without(0.0)
    mirrored = passes.without(-1.0)
    loss, draw = passes.with_gradient()
    difference = costs_to_go(draw.costs - mirrored.costs, gate.timing)
    drawn = draw.gates
    slopes = difference * (torch.sigmoid(drawn.noise_TBNK) - 0.5)
    return replace(loss, total=pushed(loss.total, drawn, slopes))
