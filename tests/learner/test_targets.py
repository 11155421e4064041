import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor

from configs.schema import LearnerConfig
from learner.initialisation import initialise_linear_layers
from learner.mellowmax import soft_mellowmax
from learner.mixers.qmix import QMixer
from learner.targets import (
    Outcome,
    individual_targets,
    living_only,
    next_values,
    returns_to_go,
    td_loss,
    team_targets,
)
from tests.learner_helpers import array, tensor

GAMMA = 0.5


def outcome(
    *,
    terminated: bool = False,
    truncated: bool = False,
    config: LearnerConfig | None = None,
) -> Outcome:
    """Two agents, two steps: r = 1, 2 then 3, 4; agent 1 dies with the first step; then the end."""
    return Outcome.of(
        config or LearnerConfig(),
        rewards_TBN=torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]]),
        alive_TBN=torch.tensor([[[True, True]], [[True, False]], [[True, False]]]),
        filled_TB=torch.tensor([[True], [True]]),
        terminated_TB=torch.tensor([[False], [terminated]]),
        truncated_TB=torch.tensor([[False], [truncated]]),
    )


NEXT = torch.tensor([[[10.0, 20.0]], [[30.0, 40.0]]])


def targets(result: Outcome) -> list[list[float]]:
    values: list[list[float]] = array(individual_targets(NEXT, result, GAMMA))[:, 0].tolist()
    return values


def test_who_dies_has_no_value_beyond_and_a_time_out_has() -> None:
    assert targets(outcome(truncated=True)) == [[1 + 5, 2], [3 + 15, 4]]


def test_the_end_of_the_task_ends_the_value() -> None:
    assert targets(outcome(terminated=True)) == [[1 + 5, 2], [3, 4]]


def test_a_time_out_ends_the_value_only_if_the_flag_says_so() -> None:
    config = LearnerConfig(timeout_is_terminal=True)
    assert targets(outcome(truncated=True, config=config)) == [[6, 2], [3, 4]]


def test_the_dead_are_masked_unless_the_flag_says_otherwise() -> None:
    assert array(outcome().agent_mask_TBN).tolist() == [[[True, True]], [[True, False]]]
    habit = outcome(truncated=True, config=LearnerConfig(dead_in_loss=True))
    assert array(habit.agent_mask_TBN).all()
    assert targets(habit) == [[1 + 5, 2 + 10], [3 + 15, 4 + 20]]


def test_rewards_are_scaled_inside_the_learner() -> None:
    assert targets(outcome(terminated=True, config=LearnerConfig(reward_scale=10.0))) == [
        [10 + 5, 20],
        [30, 40],
    ]


def test_rewards_are_clipped_before_they_are_scaled() -> None:
    config = LearnerConfig(reward_clip=2.5, reward_scale=10.0)
    assert targets(outcome(terminated=True, config=config)) == [[10 + 5, 20], [25, 25]]


def test_the_team_is_rewarded_with_the_mean_and_the_dead_add_nothing() -> None:
    result = outcome(truncated=True)
    next_total = living_only(NEXT, result.alive_TBN[1:]).sum(-1)
    assert array(next_total)[:, 0].tolist() == [10.0, 30.0]
    assert array(team_targets(next_total, result, GAMMA))[:, 0].tolist() == [1.5 + 5, 3.5 + 15]
    ended = outcome(terminated=True)
    assert array(team_targets(next_total, ended, GAMMA))[:, 0].tolist() == [6.5, 3.5]


def test_double_q_values_the_choice_of_the_online_network() -> None:
    online = torch.tensor([[[[1.0, 5.0, 2.0]]]])
    target = torch.tensor([[[[7.0, 3.0, 9.0]]]])
    assert float(next_values(online, target, LearnerConfig(double_q=True))) == 3.0
    assert float(next_values(online, target, LearnerConfig(double_q=False))) == 9.0


def test_soft_mellowmax_takes_all_values_of_the_target_network_and_no_choice() -> None:
    online = torch.tensor([[[[1.0, 5.0, 2.0]]]])
    target = torch.tensor([[[[7.0, 3.0, 9.0]]]])
    config = LearnerConfig(operator="mellowmax", mellowmax_alpha=0.5, mellowmax_omega=2.0)
    found = float(next_values(online, target, config))
    assert found == float(next_values(-online, target, config))
    assert found == float(soft_mellowmax(target, 0.5, 2.0))
    assert 7.0 < found < 9.0


def qmix_by_hand(mixer: QMixer, q_N: NDArray[Any], state: Tensor) -> float:
    """One state, scalar arithmetic except for the hypernetworks."""
    w_1_NE = np.abs(array(mixer.hyper_w_1(state))).reshape(mixer.num_agents, mixer.mixing_embed)
    b_1_E, w_final_E = array(mixer.hyper_b_1(state)), np.abs(array(mixer.hyper_w_final(state)))
    total = float(array(mixer.v(state))[0])
    for e in range(mixer.mixing_embed):
        x = float(b_1_E[e]) + sum(float(q_N[i] * w_1_NE[i, e]) for i in range(mixer.num_agents))
        total += float(w_final_E[e]) * (x if x > 0 else math.expm1(x))
    return total


def make_qmixer() -> QMixer:
    mixer = QMixer(3, 4, mixing_embed=5, hypernet_embed=6)
    initialise_linear_layers(mixer, torch.Generator().manual_seed(0))
    return mixer


def test_qmix_equals_a_calculation_by_hand() -> None:
    mixer, state = make_qmixer(), torch.randn(2, 4)
    q = torch.tensor([[-1.0, 0.5, 2.0], [-3.0, -4.0, 1.0]])
    expected = [qmix_by_hand(mixer, array(q[b]), state[b]) for b in range(2)]
    assert_allclose(array(mixer(q, state)), expected, rtol=1e-5)


def test_qmix_never_falls_when_an_agents_value_rises() -> None:
    mixer = make_qmixer()
    q = torch.randn(50, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(mixer(q, 3.0 * torch.randn(50, 4)).sum(), q)
    assert (slope >= 0.0).all()
    assert (slope > 0.0).any()


def test_a_death_costs_once_after_clipping_and_before_scaling() -> None:
    config = LearnerConfig(death_cost=0.25, reward_clip=1.0, reward_scale=2.0)
    # Agent 1 dies with the first step; that the episode ends with the second is nobody's death.
    charged = [[2.0, 1.5], [2.0, 2.0]]
    assert_allclose(outcome(terminated=True, config=config).rewards_TBN[:, 0], charged)
    habit = replace(config, dead_in_loss=True)
    assert_allclose(outcome(config=habit).rewards_TBN[:, 0], charged)
    behind = Outcome.of(
        config,
        rewards_TBN=torch.zeros(2, 1, 1),
        alive_TBN=torch.tensor([[[True]], [[True]], [[False]]]),
        filled_TB=torch.tensor([[True], [False]]),
        terminated_TB=torch.tensor([[False], [False]]),
        truncated_TB=torch.tensor([[True], [False]]),
    )
    assert not behind.rewards_TBN.any(), "what was not played is no death"


# --- lambda ---------------------------------------------------------------------------------------


def mixed(td_lambda: float, *, filled: bool = True, terminated: bool = False) -> list[list[float]]:
    """[T, N] of three steps: r = 1, 2, then 3, 4, then 5, 6; agent 1 dies with the second step."""
    result = Outcome.of(
        LearnerConfig(),
        rewards_TBN=torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]]]),
        alive_TBN=torch.tensor([[[True, True]], [[True, True]], [[True, False]], [[True, False]]]),
        filled_TB=torch.tensor([[True], [True], [filled]]),
        terminated_TB=torch.tensor([[False], [False], [terminated]]),
        truncated_TB=torch.tensor([[False], [not filled], [not terminated]]),
    )
    values = torch.tensor([[[10.0, 20.0]], [[30.0, 40.0]], [[50.0, 60.0]]])
    numbers: list[list[float]] = array(individual_targets(values, result, GAMMA, td_lambda))[
        :, 0
    ].tolist()
    return numbers


def test_lambda_one_is_the_recorded_return_with_the_value_at_its_end() -> None:
    third = 5 + 0.5 * 50
    second = 3 + 0.5 * third
    assert [row[0] for row in mixed(1.0)] == [1 + 0.5 * second, second, third]
    assert [row[0] for row in mixed(1.0, terminated=True)] == [1 + 0.5 * (3 + 0.5 * 5), 5.5, 5.0]


def test_lambda_mixes_value_and_return() -> None:
    third = 5 + 0.5 * 50
    second = 3 + 0.5 * (0.75 * 30 + 0.25 * third)
    first = 1 + 0.5 * (0.75 * 10 + 0.25 * second)
    assert [row[0] for row in mixed(0.25)] == pytest.approx([first, second, third])


def test_no_return_reaches_back_over_a_death_or_the_end_of_what_was_played() -> None:
    # Agent 1 dies with the second step: nothing of the third is its own.
    assert [row[1] for row in mixed(1.0)][:2] == [2 + 0.5 * 4, 4]
    # The episode ended by time with the second step: its value is the target network's.
    assert [row[0] for row in mixed(1.0, filled=False)][:2] == [1 + 0.5 * (3 + 0.5 * 30), 3 + 15]


def test_the_teams_return_is_mixed_likewise() -> None:
    result = outcome(truncated=True)
    total_TB = torch.tensor([[100.0], [200.0]])
    one_step = array(team_targets(total_TB, result, GAMMA))[:, 0].tolist()
    assert one_step == [1.5 + 50, 3.5 + 100]
    assert array(team_targets(total_TB, result, GAMMA, 1.0))[:, 0].tolist() == [
        1.5 + 0.5 * 103.5,
        103.5,
    ]


def test_errors_beyond_the_bound_count_linearly() -> None:
    errors = torch.tensor([0.5, -3.0])
    assert float(td_loss(errors, 0.0)) == 0.25 + 9.0
    assert float(td_loss(errors, 1.0)) == pytest.approx(0.25 + (2 * 3.0 - 1.0))


@pytest.mark.parametrize(("huber", "large"), [(0.0, 9.0), (1.0, 2 * 3.0 - 1.0)])
def test_weights_scale_losses_and_not_errors(huber: float, large: float) -> None:
    errors, weights = torch.tensor([0.5, -3.0]), torch.tensor([1.0, 0.1])
    assert float(td_loss(errors, huber, weights)) == pytest.approx(0.25 + 0.1 * large)


# --- by brute force -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Random:
    """Windows of 7 steps: one that goes on behind its end, and episodes of 1 to 7 steps that end by
    time or by themselves; agents that die anywhere, or were never there.
    """

    result: Outcome
    next_TBN: Tensor
    next_total_TB: Tensor


def random_outcome(config: LearnerConfig, seed: int) -> Random:
    rng = np.random.default_rng(seed)
    time, batch, agents = 7, 12, 3
    lengths = np.array([time, *rng.integers(1, time + 1, batch - 1)])
    goes_on = np.array([True] + [False] * (batch - 1))
    by_itself = rng.random(batch) < 0.5
    steps = np.arange(time)[:, None]
    last = (steps == lengths - 1) & ~goes_on
    lived = rng.integers(0, 2 * time, size=(batch, agents))
    alive = np.arange(time + 1)[:, None, None] < lived
    filled = steps < lengths
    rewards = rng.normal(size=(time, batch, agents)) * alive[:-1] * filled[..., None]
    result = Outcome.of(
        config,
        rewards_TBN=tensor(rewards, np.float64),
        alive_TBN=tensor(alive, np.bool_),
        filled_TB=tensor(filled, np.bool_),
        terminated_TB=tensor(last & by_itself, np.bool_),
        truncated_TB=tensor(last & ~by_itself, np.bool_),
    )
    next_TBN = tensor(rng.normal(size=(time, batch, agents)), np.float64)
    return Random(result, next_TBN, tensor(rng.normal(size=(time, batch)), np.float64))


def n_step_targets(rewards: list[float], values: list[float], ends: list[bool]) -> list[float]:
    """T_1, T_2, … of the first of some steps, as many as were recorded.

    T_n = r_0 + … + gamma^(n-1) r_(n-1) + gamma^n q'_n; none looks over an end, where q' is 0.
    """
    targets: list[float] = []
    total = 0.0
    for n, (reward, value, end) in enumerate(zip(rewards, values, ends, strict=True), start=1):
        total += GAMMA ** (n - 1) * reward
        targets.append(total if end else total + GAMMA**n * value)
        if end:
            break
    return targets


def mixed_by_definition(targets: list[float], td_lambda: float) -> float:
    """(1 - lambda) sum_n lambda^(n-1) T_n, where the last T_n stands for all that would follow."""
    total = sum((1 - td_lambda) * td_lambda**n * x for n, x in enumerate(targets[:-1]))
    return total + td_lambda ** (len(targets) - 1) * targets[-1]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("timeout_is_terminal", [False, True])
@pytest.mark.parametrize(
    ("td_lambda", "n_step"), [(0.0, 1), (0.3, 1), (0.8, 1), (1.0, 1), (0.0, 3), (0.0, 50)]
)
def test_targets_are_the_n_step_targets_of_their_definition(
    td_lambda: float, n_step: int, timeout_is_terminal: bool, seed: int
) -> None:
    drawn = random_outcome(LearnerConfig(timeout_is_terminal=timeout_is_terminal), seed)
    result = drawn.result
    individual = array(individual_targets(drawn.next_TBN, result, GAMMA, td_lambda, n_step))
    team = array(team_targets(drawn.next_total_TB, result, GAMMA, td_lambda, n_step))
    alive, rewards = array(result.alive_TBN), array(result.rewards_TBN)
    ends, played = array(result.ends_TB), array(result.filled_TB).sum(axis=0)
    assert ends.any()
    assert (alive[0] & ~alive[-1]).any()

    def expected(rewards: Any, values: Any, ends: Any) -> Any:
        targets = n_step_targets(rewards.tolist(), values.tolist(), ends.tolist())
        number = targets[min(n_step, len(targets)) - 1]
        mixture = mixed_by_definition(targets, td_lambda)
        # What is made of flags is float32.
        return pytest.approx(number if n_step > 1 else mixture, abs=1e-6)

    next_TBN, next_total_TB = array(drawn.next_TBN), array(drawn.next_total_TB)
    for b, t in np.ndindex(len(played), len(rewards)):
        rest = slice(t, played[b])
        if t < played[b]:
            r_TN, ends_T = rewards[rest, b], ends[rest, b]
            assert team[t, b] == expected(r_TN.mean(-1), next_total_TB[rest, b], ends_T)
            for i in np.flatnonzero(alive[t, b]):
                over_T = ends_T | ~alive[t + 1 : played[b] + 1, b, i]
                assert individual[t, b, i] == expected(r_TN[:, i], next_TBN[rest, b, i], over_T)


def test_the_recorded_return_goes_on_behind_the_window() -> None:
    result = outcome(truncated=True)
    found = array(returns_to_go(result, GAMMA, torch.tensor([8.0])))[:, 0].tolist()
    assert found == [1.5 + 0.5 * (3.5 + 0.5 * 8.0), 3.5 + 0.5 * 8.0]


@pytest.mark.parametrize("operator", ["max", "mellowmax"])
@pytest.mark.parametrize("double_q", [True, False])
def test_a_masked_action_is_neither_chosen_nor_weighed(operator: str, double_q: bool) -> None:
    config = LearnerConfig(operator=operator, double_q=double_q)  # type: ignore[arg-type]  # one of two
    online, target = torch.tensor([[[[1.0, 9.0, 2.0]]]]), torch.tensor([[[[5.0, 8.0, 3.0]]]])
    allowed = torch.tensor([[[[True, False, True]]]])
    masked = next_values(online, target, config, allowed)
    without = next_values(online[..., [0, 2]], target[..., [0, 2]], config)
    torch.testing.assert_close(masked, without)
