"""The score-function estimator (REINFORCE; Williams, 1992) with a baseline.

    d E(L) / d score = E[(L(C) - b) (C - p)]        p = sigmoid(score), C = 1[score + noise > 0]

(C - p) is d log P(C) / d score. The baseline b is what the same episode costs from the same step on
with its gates as they will be deployed, without noise: no draw has a say in it, so the mean stays
what it is; and it takes along what differs from episode to episode and from step to step, which is
most of what makes L vary (Rennie et al., 2017, do so with sentences).

With a budget gates are not independent: an edge is open if it is among the best. Then what was
drawn is the noisy score, whose density has the slope tanh(noise / 2) in the score. It varies more:
C - p is its mean given C.

What T steps cost: gates of all steps are drawn at once, and each is held responsible for the loss
of all steps after it. Costs of n gates that matter alike vary with n, and so the variance of each
slope grows with the number of gates that reach the same steps, T × N × K of them, where one gate's
own effect stays what it is. The straight-through gradient and ARM's difference (in part) cancel
that; this one cannot, which is why it needs the baseline and still learns slowest.

An update unrolls the agents twice, once without a gradient.
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
    baseline = passes.without(0.0)
    loss, draw = passes.with_gradient()
    advantage = costs_to_go(draw.costs - baseline.costs, gate.timing)
    drawn = draw.gates
    if 0 < gate.budget < drawn.scores_TBNK.shape[-1]:
        score_slopes = torch.tanh(drawn.noise_TBNK / 2.0)
    else:
        score_slopes = drawn.gates_TBNK - torch.sigmoid(drawn.scores_TBNK.detach())
    return replace(loss, total=pushed(loss.total, drawn, advantage * score_slopes))
