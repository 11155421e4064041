"""SHAQ: the running means against all orders and coalitions, its targets, its two step sizes."""

import math
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from configs.schema import GateConfig, LearnerConfig
from learner.algorithms.shaq import alphas, joined_before, random_orders
from learner.experience.part import Part
from learner.experience.replay import Rows
from learner.initialisation import initialise_linear_layers
from learner.learner import Learner
from learner.mixers.qmix import QMixer
from learner.ranks import shared_out
from tests.learner.algorithms.matrix_game import ADDITIVE, greedy_actions, trained
from tests.learner_helpers import (
    DIMENSIONS,
    array,
    load_part,
    make_config,
    make_episode,
    make_flat,
    make_spec,
)


def settings(**others: Any) -> LearnerConfig:
    given: dict[str, Any] = {
        "batch_size": 4,
        "learning_starts": 1,
        "gamma": 0.9,
        "mixing_embed": 6,
        "hypernet_embed": 7,
        "target_update_period": 10_000,
    }
    return LearnerConfig(device="cpu", algorithm="shaq", **given | others)


def make_learner(config: LearnerConfig, episodes: int = 4) -> Learner:
    spec = make_spec()
    run = make_config(gate=GateConfig(mode="open"), learner=config)
    learner = Learner(run, spec, DIMENSIONS, make_flat(spec, gain=1.0))
    for number in range(episodes):
        lifetimes = (6, 3, 0, 6, 5, 1) if number % 2 else None
        learner.add(make_episode(number, lifetimes=lifetimes, terminated=number % 3 == 0))
    return learner


def make_weights() -> QMixer:
    weigh = QMixer(2, 3, mixing_embed=6, hypernet_embed=7)
    initialise_linear_layers(weigh, torch.Generator().manual_seed(0))
    return weigh


ALIVE = [(True, True, True, True), (True, False, True, True), (False, False, True, False)]


@pytest.mark.parametrize("alive", ALIVE)
@torch.no_grad()
def test_all_orders_give_shapleys_weights_of_all_coalitions(alive: tuple[bool, ...]) -> None:
    weigh, noise = make_weights(), torch.Generator().manual_seed(1)
    q, state = torch.randn(4, generator=noise), torch.randn(3, generator=noise)
    orders = torch.tensor(list(permutations(range(4))))
    found = alphas(weigh, q, torch.tensor(alive), orders, state)

    def contribution(others: list[int], agent: int) -> float:
        there = [float(q[other]) for other in others if alive[other]]
        mean = sum(there) / len(there) if there else 0.0
        return abs(float(weigh(torch.tensor([mean, float(q[agent])]), state)))

    for agent in range(4):
        by_orders = [
            contribution(list(order[: order.index(agent)]), agent)
            for order in permutations(range(4))
        ]
        assert float(found[agent]) == pytest.approx(1.0 + np.mean(by_orders), rel=1e-4)
        rest = [other for other in range(4) if other != agent]
        by_coalitions = sum(
            math.factorial(size)
            * math.factorial(3 - size)
            / math.factorial(4)
            * contribution(list(others), agent)
            for size in range(4)
            for others in combinations(rest, size)
        )
        assert float(found[agent]) == pytest.approx(1.0 + by_coalitions, rel=1e-4)
    assert (found >= 1.0).all()


@torch.no_grad()
def test_drawn_orders_come_near_to_all_of_them() -> None:
    weigh, noise = make_weights(), torch.Generator().manual_seed(2)
    q, state = 3.0 * torch.randn(1, 1, 4, generator=noise), torch.randn(1, 1, 3, generator=noise)
    alive = torch.ones(1, 1, 4, dtype=torch.bool)
    exact = alphas(weigh, q, alive, torch.tensor([[list(permutations(range(4)))]]), state)
    drawn = random_orders(alive, 20_000, noise, Rows(0, 1, 1))
    assert torch.equal(drawn.sort(-1).values, torch.arange(4).expand_as(drawn))
    assert_allclose(array(alphas(weigh, q, alive, drawn, state)), array(exact), rtol=0.01)


def test_a_coalition_is_who_joined_before() -> None:
    q, alive = torch.tensor([1.0, 10.0, 100.0]), torch.tensor([True, True, False])
    orders = torch.tensor([[0, 1, 2], [1, 2, 0]])
    found = joined_before(q, alive, orders)
    assert_allclose(array(found), [[0.0, 1.0, 5.5], [10.0, 0.0, 10.0]])


def test_noise_does_not_depend_on_who_works_off_which_rows() -> None:
    alive = torch.ones(3, 5, 4, dtype=torch.bool)

    def drawn(rows: Rows) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return random_orders(alive[:, rows.slice], 2, generator, rows)

    whole = drawn(Rows(0, 5, 5))
    assert torch.equal(torch.cat((drawn(Rows(0, 2, 5)), drawn(Rows(2, 5, 5))), dim=1), whole)


def test_memory_grows_with_the_number_of_agents_and_not_with_its_square() -> None:
    largest: list[int] = []
    for agents in (50, 100):
        alive = torch.ones(2, 1, agents, dtype=torch.bool)
        orders = random_orders(alive, 3, torch.Generator().manual_seed(0), Rows(0, 1, 1))
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: (sizes.append(x.numel()), x)[1], lambda x: x
        ):
            q = torch.randn(2, 1, agents, requires_grad=True)
            alphas(make_weights(), q, alive, orders, torch.randn(2, 1, 3))
        largest.append(max(sizes))
    assert largest[1] <= 2 * largest[0]


def test_alpha_teaches_the_agents_as_well() -> None:
    q = torch.randn(4, generator=torch.Generator().manual_seed(3)).requires_grad_()
    orders, alive = torch.tensor([[0, 1, 2, 3]]), torch.ones(4, dtype=torch.bool)
    found = alphas(make_weights(), q, alive, orders, torch.ones(3))
    (slope,) = torch.autograd.grad(found[3], q)
    assert (slope != 0.0).all(), "its own value, and that of those who joined before"
    (slope,) = torch.autograd.grad(alphas(make_weights(), q, alive, orders, torch.ones(3))[0], q)
    assert torch.equal(slope != 0.0, torch.tensor([True, False, False, False]))


def whole(learner: Learner) -> Part:
    """The replay's only episode as a part, with the learner's own noise."""
    batch = learner.replay.sample(np.random.default_rng(0), 1)
    (share,) = shared_out(batch, 1, ranks=1)[0]
    generator = torch.Generator()
    generator.set_state(learner.generator.get_state())
    return load_part(share, generator, make_config(learner=learner.config))


@torch.no_grad()
def test_the_loss_equals_a_calculation_step_by_step() -> None:
    learner = make_learner(settings(options="samples=3"), episodes=0)
    learner.add(make_episode(3, length=7, lifetimes=(8, 4, 0, 8, 6, 1)))
    noise = torch.Generator().manual_seed(5)
    for parameter in learner.target.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape, generator=noise))
    part, algorithm = whole(learner), learner.algorithm
    online, target = (
        algorithm.unroll_deployed(policy, part).q_TBNA[:, 0]
        for policy in (algorithm.policy, algorithm.target_policy)
    )
    alive, states = part.alive[:, 0], part.states[:, 0]
    orders = random_orders(part.alive[:-1], 3, part.generator, part.rows)[:, 0]
    weigh, loss, is_weighed = learner.online["mixer"], 0.0, 0
    for t in range(7):
        y, q_tot = float(part.outcome.rewards_TBN[t, 0].mean()), 0.0
        for i in range(DIMENSIONS.num_agents):
            best = int(online[t + 1, i].argmax())
            y += 0.9 * float(target[t + 1, i, best]) * bool(alive[t + 1, i])
            action = int(part.actions[t, 0, i])
            q, weight = float(online[t, i, action]), 0.0
            for joining in orders[t]:
                order = [int(j) for j in joining]
                before = [j for j in order[: order.index(i)] if alive[t, j]]
                there = [float(online[t, j, int(part.actions[t, 0, j])]) for j in before]
                mean = sum(there) / max(len(there), 1)
                weight += abs(float(weigh(torch.tensor([mean, q]), states[t]))) / 3
            greedy = int(online[t, i].argmax()) == action
            is_weighed += not greedy and bool(alive[t, i])
            q_tot += (1.0 if greedy else 1.0 + weight) * q * bool(alive[t, i])
        loss += (q_tot - y) ** 2
    with torch.enable_grad():
        metrics = learner.compute_gradient()
    assert is_weighed > 3
    assert metrics["loss"] == pytest.approx(loss / 7, rel=1e-3)
    assert metrics["alpha_mean"] > 1.0


def test_only_the_policy_has_a_target() -> None:
    learner = make_learner(settings())
    assert list(learner.target) == ["policy"]
    assert list(learner.online) == ["policy", "mixer"]


def test_agents_and_weights_have_steps_and_bounds_of_their_own() -> None:
    config = settings(options="weights_rate=0.5", grad_clip=0.01, learning_rate=1e-3)
    learner = make_learner(config)
    learner.apply_gradient(learner.compute_gradient())
    assert [group["lr"] for group in learner.optimiser.param_groups] == [1e-3, 5e-4]
    for name in ("policy", "mixer"):
        grads = [p.grad for p in learner.online[name].parameters() if p.grad is not None]
        norm = math.sqrt(sum(float(grad.square().sum()) for grad in grads))
        assert norm == pytest.approx(0.01, rel=1e-3), "each by itself, and not both together"


def test_a_fixed_batch_can_be_learnt_by_heart() -> None:
    learner = make_learner(settings(learning_rate=1e-2))
    metrics = [learner.update() for _ in range(40)]
    assert metrics[-1]["loss"] < 0.6 * metrics[0]["loss"]
    assert all(np.isfinite(list(m.values())).all() for m in metrics)


def test_it_finds_the_best_joint_action_of_a_game_that_adds_up() -> None:
    learner = trained(settings(), ADDITIVE, updates=100)
    assert greedy_actions(learner) == [1, 1]
