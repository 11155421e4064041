"""RES: its target by enumeration, and the pull towards recorded returns."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from configs.schema import GateConfig, LearnerConfig
from learner.algorithms import res
from learner.algorithms.res import Values, softmax_values
from learner.comm.unroll import UnrollInput, unroll
from learner.experience.replay import Discounting, Replay
from learner.initialisation import initialise_linear_layers
from learner.learner import Learner
from learner.mixers.qmix import QMixer
from learner.targets import next_values
from tests.learner_helpers import (
    DIMENSIONS,
    array,
    make_config,
    make_episode,
    make_flat,
    make_spec,
    tensor,
)

TIME, BATCH, AGENTS, ACTIONS, STATE = 3, 2, 3, 4, 5


def make_mixer(seed: int) -> QMixer:
    mixer = QMixer(AGENTS, STATE, mixing_embed=6, hypernet_embed=7)
    initialise_linear_layers(mixer, torch.Generator().manual_seed(seed))
    return mixer.requires_grad_(False)


class Case:
    """Two networks, and agents of which one is dead in one episode."""

    def __init__(self, config: LearnerConfig | None = None) -> None:
        noise = torch.Generator().manual_seed(0)
        shape = (TIME, BATCH, AGENTS, ACTIONS)
        online, target = (3.0 * torch.randn(shape, generator=noise) for _ in range(2))
        self.states = torch.randn(TIME, BATCH, STATE, generator=noise)
        self.alive = torch.ones(TIME, BATCH, AGENTS, dtype=torch.bool)
        self.alive[:, 1, 2] = False
        config = config or LearnerConfig()
        self.online = Values(make_mixer(1), online, next_values(online, online, config))
        self.target = Values(make_mixer(2), target, next_values(online, target, config))

    def found(self, beta: float) -> Tensor:
        return softmax_values(self.online, self.target, self.states, self.alive, beta)

    def q_tot(self, side: Values, t: int, b: int, agent: int, action: int) -> float:
        """Of the joint action in which one agent does this and the others their own."""
        values = side.own_TBN[t, b].clone()
        values[agent] = side.q_TBNA[t, b, agent, action]
        values[~self.alive[t, b]] = 0.0
        return float(side.mixer(values, self.states[t, b]))

    def enumerated(self, t: int, b: int) -> list[tuple[float, float]]:
        """Online and target q_tot of all joint actions, in the order of agents and actions."""
        return [
            (self.q_tot(self.online, t, b, agent, a), self.q_tot(self.target, t, b, agent, a))
            for agent in range(AGENTS)
            for a in range(ACTIONS if self.alive[t, b, agent] else 1)
        ]


CONFIGS = [LearnerConfig(), LearnerConfig(operator="mellowmax", mellowmax_omega=2.0)]


@pytest.mark.parametrize("beta", [0.05, 5.0])
@pytest.mark.parametrize("config", CONFIGS, ids=["max", "mellowmax"])
def test_the_value_is_the_softmax_mean_over_all_joint_actions_one_step_aside(
    config: LearnerConfig, beta: float
) -> None:
    case = Case(config)
    found = array(case.found(beta))
    for t, b in np.ndindex(TIME, BATCH):
        pairs = case.enumerated(t, b)
        assert len(pairs) == ((AGENTS - 1) * ACTIONS + 1 if b else AGENTS * ACTIONS)
        weights = [math.exp(beta * online) for online, _ in pairs]
        mean = sum(w * y for w, (_, y) in zip(weights, pairs, strict=True)) / sum(weights)
        assert found[t, b] == pytest.approx(mean, rel=1e-4)


def test_the_online_networks_choose_and_the_target_networks_value() -> None:
    case = Case()
    found = array(case.found(1e6))
    for t, b in np.ndindex(TIME, BATCH):
        # The largest online q_tot is that of the greedy joint action: the mixer is monotonic.
        values = case.target.own_TBN[t, b] * case.alive[t, b]
        greedy = float(case.target.mixer(values, case.states[t, b]))
        assert found[t, b] == pytest.approx(greedy, rel=1e-4)
        assert found[t, b] < max(y for _, y in case.enumerated(t, b))


def test_without_a_temperature_all_joint_actions_count_alike() -> None:
    case = Case()
    mean = np.mean([y for _, y in case.enumerated(0, 0)])
    assert float(case.found(0.0)[0, 0]) == pytest.approx(mean, rel=1e-4)


def test_pieces_of_the_time_axis_make_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case()
    whole = case.found(5.0)
    calls: list[int] = []
    deviations = QMixer.deviations

    def counting(self: QMixer, q: Tensor, others: Tensor, states: Tensor) -> Tensor:
        calls.append(len(states))
        return deviations(self, q, others, states)

    monkeypatch.setattr(QMixer, "deviations", counting)
    monkeypatch.setattr(res, "_NUMBERS_AT_ONCE", 2 * BATCH * AGENTS * ACTIONS * 6)
    assert_allclose(array(case.found(5.0)), array(whole), rtol=1e-6)
    assert calls == [2, 2, 1, 1]


def test_deviations_are_what_the_mixer_says_of_each_joint_action() -> None:
    case = Case()
    side = case.online
    found = array(side.mixer.deviations(side.own_TBN, side.q_TBNA, case.states))
    for t, b, agent, a in np.ndindex(*found.shape):
        values = side.own_TBN[t, b].clone()
        values[agent] = side.q_TBNA[t, b, agent, a]
        expected = float(side.mixer(values, case.states[t, b]))
        assert found[t, b, agent, a] == pytest.approx(expected, rel=1e-4, abs=1e-5)


# --- returns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [0, 3, 20])
def test_returns_reach_from_every_window_to_the_episodes_end(window: int) -> None:
    replay = Replay(3)
    for number, length in enumerate((4, 9, 6)):
        lifetimes = [length - 1] + [length + 1] * (DIMENSIONS.num_agents - 1)
        replay.add(make_episode(number, length=length, lifetimes=lifetimes))
    windows = replay.choose(np.random.default_rng(0), 3, window)
    batch = windows.gather(Discounting(gamma=0.9, reward_clip=0.5))
    for b, (episode, start) in enumerate(zip(windows.episodes, windows.starts, strict=True)):
        rest = episode.rewards[start + int(batch.filled[:, b].sum()) :].clip(max=0.5)
        expected = sum(0.9**k * rest[k].mean() for k in range(len(rest)))
        assert batch.returns_after[b] == pytest.approx(expected, rel=1e-5)
        deaths = (episode.alive[:-1] & ~episode.alive[1:])[len(episode.rewards) - len(rest) :]
        lost = sum(0.9**k * 2.0 * deaths[k].mean() for k in range(len(rest)))
        assert (lost > 0.0) == (len(rest) > 1), "one dies in the last step but one"
        costly = windows.gather(Discounting(gamma=0.9, reward_clip=0.5, death_cost=2.0))
        assert costly.returns_after[b] == pytest.approx(expected - lost, rel=1e-5)
    assert bool(batch.returns_after.any()) is (window == 3)
    assert not windows.gather().returns_after.any()


SETTINGS = LearnerConfig(
    device="cpu",
    algorithm="res",
    batch_size=1,
    learning_starts=1,
    gamma=0.9,
    reward_clip=0.5,
    reward_scale=2.0,
    window=4,
    target_update_period=10_000,
)


def make_learner(config: LearnerConfig) -> Learner:
    spec = make_spec()
    run = make_config(gate=GateConfig(mode="open"), learner=config)
    return Learner(run, spec, DIMENSIONS, make_flat(spec, gain=1.0))


@torch.no_grad()
def test_both_losses_of_a_window_equal_a_calculation_step_by_step() -> None:
    learner = make_learner(SETTINGS)
    episode = make_episode(1, length=9, lifetimes=(10, 4, 0, 10, 7, 1))
    learner.add(episode)
    mixer, target_mixer = learner.online["mixer"], learner.target["mixer"]
    assert isinstance(mixer, QMixer)
    assert isinstance(target_mixer, QMixer)
    for parameter in target_mixer.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator()))
    while True:  # until the window goes on, and does not begin with its episode
        state = learner.rng.bit_generator.state
        batch = learner.replay.sample(learner.rng, 1, SETTINGS.window)
        start = int(batch.starts[0])
        if 0 < start < 5:
            break
    learner.rng.bit_generator.state = state  # the learner is to draw the same window
    alive = tensor(batch.alive, np.bool_)
    window = UnrollInput(tensor(batch.observations, np.float32), alive)
    q_TNA = unroll(learner.network, window, learner.algorithm.rule()).q_TBNA[:, 0]
    states_TS, alive_TN = tensor(batch.states, np.float32)[:, 0], alive[:, 0]
    rewards = 2.0 * episode.rewards.clip(max=0.5).mean(axis=1)

    def q_tot(module: QMixer, t: int, values_N: Tensor) -> float:
        return float(module(values_N * alive_TN[t], states_TS[t]))

    td_loss, return_loss = 0.0, 0.0
    for t in range(4):
        pairs: list[tuple[float, float]] = []
        greedy_N = q_TNA[t + 1].amax(-1)  # online and target agents are still the same
        for agent in range(DIMENSIONS.num_agents):
            for a in range(DIMENSIONS.num_actions if alive_TN[t + 1, agent] else 1):
                values_N = greedy_N.clone()
                values_N[agent] = q_TNA[t + 1, agent, a]
                pairs.append((q_tot(mixer, t + 1, values_N), q_tot(target_mixer, t + 1, values_N)))
        weights = [math.exp(5.0 * online) for online, _ in pairs]
        value = sum(w * y for w, (_, y) in zip(weights, pairs, strict=True)) / sum(weights)
        actions = torch.from_numpy(batch.actions[t, 0])  # pyright: ignore[reportUnknownMemberType]
        chosen = q_tot(mixer, t, q_TNA[t].gather(-1, actions.unsqueeze(-1)).squeeze(-1))
        td_loss += (chosen - (rewards[start + t] + 0.9 * value)) ** 2
        recorded = sum(0.9**k * r for k, r in enumerate(rewards[start + t :]))
        return_loss += 0.05 * (chosen - recorded) ** 2
    with torch.enable_grad():
        metrics = learner.compute_gradient()
    assert metrics["loss"] == pytest.approx(td_loss / 4, rel=1e-4)
    assert metrics["return_loss"] == pytest.approx(return_loss / 4, rel=1e-4)


def test_the_pull_towards_returns_moves_the_networks() -> None:
    def gradient(res_lambda: float) -> Tensor:
        learner = make_learner(replace(SETTINGS, res_lambda=res_lambda))
        learner.add(make_episode(1, length=9))
        learner.compute_gradient()
        found = learner.network.q_out.bias.grad
        assert found is not None
        return found

    without, little, much = (gradient(coefficient) for coefficient in (0.0, 0.05, 0.1))
    assert (little != without).any()
    assert_allclose(array(much - without), 2.0 * array(little - without), rtol=1e-3, atol=1e-6)
