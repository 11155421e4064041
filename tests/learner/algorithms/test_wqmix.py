"""OW-QMIX: the central critic, its weights, and the targets of both losses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.algorithms.described import check
from configs.schema import GateConfig, LearnerConfig
from learner.algorithms.wqmix import CentralAgent, CentralMixer, optimistic_weights
from learner.comm.unroll import UnrollInput, unroll
from learner.initialisation import initialise_linear_layers
from learner.learner import Learner
from learner.mellowmax import soft_mellowmax
from tests.learner.algorithms.matrix_game import NOT_MONOTONIC, greedy_actions, trained
from tests.learner_helpers import (
    DIMENSIONS,
    array,
    make_config,
    make_episode,
    make_flat,
    make_spec,
    tensor,
)

SETTINGS = LearnerConfig(
    device="cpu",
    algorithm="wqmix",
    batch_size=4,
    learning_starts=1,
    central_hidden=10,
    central_embed=11,
    gamma=0.9,
    target_update_period=10_000,
)


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]  # untyped in torch


def make_learner(config: LearnerConfig = SETTINGS) -> Learner:
    spec = make_spec()
    run = make_config(gate=GateConfig(mode="open"), learner=config)
    return Learner(run, spec, DIMENSIONS, make_flat(spec, gain=1.0))


def fill(learner: Learner, count: int = 4) -> Learner:
    for number in range(count):
        lifetimes = (6, 3, 0, 6, 5, 1) if number % 2 else None
        learner.add(make_episode(number, lifetimes=lifetimes, terminated=number % 3 == 0))
    return learner


def test_what_is_below_its_target_counts_in_full() -> None:
    errors = torch.tensor([-3.0, -1e-6, 0.0, 1e-6, 3.0])
    assert_allclose(array(optimistic_weights(errors, 0.1)), [1.0, 1.0, 0.1, 0.1, 0.1])


def test_the_central_mixer_equals_a_calculation_by_hand() -> None:
    mixer = CentralMixer(3, 4, embed=5)
    q_N, state_S = torch.randn(2, 3), torch.randn(2, 4)

    def through(layers: nn.Sequential, x: NDArray[Any]) -> NDArray[Any]:
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        for depth, layer in enumerate(linear):
            x = x @ array(layer.weight).T + array(layer.bias)
            x = x if depth == len(linear) - 1 else np.maximum(x, 0.0)
        return x[:, 0]

    both = np.concatenate((array(state_S), array(q_N)), axis=1)
    expected = through(mixer.net, both) + through(mixer.v, array(state_S))
    assert_allclose(array(mixer(q_N, state_S)), expected, rtol=1e-4, atol=1e-6)
    widths = [layer.out_features for layer in mixer.net if isinstance(layer, nn.Linear)]
    assert widths == [5, 5, 5, 1]


def test_the_central_mixer_may_fall_when_an_agents_value_rises() -> None:
    mixer = CentralMixer(3, 4, embed=5)
    initialise_linear_layers(mixer, torch.Generator().manual_seed(0))
    q = torch.randn(50, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(mixer(q, torch.randn(50, 4)).sum(), q)
    assert (slope < 0.0).any()
    assert (slope > 0.0).any()


def test_a_central_agent_is_fc_gru_fc_and_hears_nobody() -> None:
    agent = CentralAgent(observation_dim=5, num_actions=4, hidden=6)
    observations = torch.randn(7, 2, 3, 5)
    found = agent(observations)
    gru = agent.gru
    cell = nn.GRUCell(6, 6)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell.load_state_dict({name: getattr(gru, f"{name}_l0") for name in names})
    for b, i in np.ndindex(2, 3):
        hidden = torch.zeros(6)
        for t in range(7):
            hidden = cell(torch.relu(agent.encoder(observations[t, b, i])), hidden)
            assert_allclose(array(found[t, b, i]), array(agent.q_out(hidden)), atol=1e-5)


def value_of_next(learner: Learner, online_A: Tensor, central_A: Tensor) -> float:
    """The central target agent's value of what the online agent would do."""
    config = learner.config
    if config.operator == "mellowmax":
        return float(soft_mellowmax(central_A, config.mellowmax_alpha, config.mellowmax_omega))
    return float(central_A[int(online_A.argmax())])


def mixed(mixer: nn.Module, values: list[float], state_S: Tensor) -> float:
    return float(mixer(torch.tensor(values), state_S))


def losses_step_by_step(learner: Learner) -> tuple[float, float]:
    """Both losses of a batch of one episode, from the definition: one mixer call per number."""
    config, online, target = learner.config, learner.online, learner.target
    batch = learner.replay.sample(np.random.default_rng(0), 1)
    observations = tensor(batch.observations, np.float32)
    window = UnrollInput(observations, tensor(batch.alive, np.bool_))
    online_TNA = unroll(learner.network, window, learner.algorithm.rule()).q_TBNA[:, 0]
    central_TNA = online["central_agent"](observations)[:, 0]
    target_TNA = target["central_agent"](observations)[:, 0]
    states_TS = tensor(batch.states, np.float32)[:, 0]
    weighted, central = 0.0, 0.0
    steps = len(batch.actions)
    for t in range(steps):
        acted: list[float] = []
        acted_central: list[float] = []
        beyond: list[float] = []
        for i, action in enumerate(batch.actions[t, 0].tolist()):
            now, then = bool(batch.alive[t, 0, i]), bool(batch.alive[t + 1, 0, i])
            acted.append(float(online_TNA[t, i, action]) if now else 0.0)
            acted_central.append(float(central_TNA[t, i, action]) if now else 0.0)
            value = value_of_next(learner, online_TNA[t + 1, i], target_TNA[t + 1, i])
            beyond.append(value if then else 0.0)
        y = float(batch.rewards[t, 0].mean())
        if not batch.terminated[t, 0]:
            y += config.gamma * mixed(target["central_mixer"], beyond, states_TS[t + 1])
        error = mixed(online["mixer"], acted, states_TS[t]) - y
        weighted += (1.0 if error < 0.0 else config.wqmix_alpha) * error**2
        central += (mixed(online["central_mixer"], acted_central, states_TS[t]) - y) ** 2
    return weighted / steps, central / steps


@pytest.mark.parametrize("terminated", [False, True])
@pytest.mark.parametrize("operator", ["max", "mellowmax"])
@torch.no_grad()
def test_both_losses_have_the_central_target_of_the_agents_choice(
    operator: str, terminated: bool
) -> None:
    config = replace(SETTINGS, operator=operator, batch_size=1)  # type: ignore[arg-type]
    learner = make_learner(config)
    learner.add(make_episode(3, length=9, lifetimes=(10, 4, 0, 10, 7, 1), terminated=terminated))
    # A target that says something else than the online critic, or a mix-up would not show.
    for part in (learner.target["central_agent"], learner.target["central_mixer"]):
        for parameter in part.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    weighted, central = losses_step_by_step(learner)
    with torch.enable_grad():
        metrics = learner.compute_gradient()
    assert metrics["loss"] == pytest.approx(weighted, rel=1e-4)
    assert metrics["central_loss"] == pytest.approx(central, rel=1e-4)


def test_each_network_learns_from_its_own_loss_alone() -> None:
    def gradients(config: LearnerConfig) -> dict[str, Tensor]:
        learner = fill(make_learner(config))
        learner.compute_gradient()
        named = learner.online.named_parameters()
        return {name: p.grad for name, p in named if p.grad is not None}

    plain = gradients(SETTINGS)
    # Weights of nearly nothing: what is not below its target hardly moves the policy and its mixer.
    weak = gradients(replace(SETTINGS, wqmix_alpha=1e-9))
    for name, gradient in plain.items():
        same = torch.equal(gradient, weak[name])
        assert same == name.startswith("central_"), name
    assert {name.partition(".")[0] for name in plain} == {
        *("policy", "mixer"),
        *("central_agent", "central_mixer"),
    }


def test_the_critics_parameters_come_from_the_runs_seed() -> None:
    first, second = make_learner(), make_learner()
    torch.manual_seed(1)  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
    third = make_learner()
    for learner in (second, third):
        for name, parameter in learner.online.named_parameters():
            assert torch.equal(parameter, dict(first.online.named_parameters())[name]), name


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "finds_it"), [("qmix", False), ("wqmix", True)])
def test_only_the_weighted_one_finds_the_best_joint_action_of_a_game_that_is_not_monotonic(
    algorithm: str, finds_it: bool
) -> None:
    settings = replace(SETTINGS, algorithm=algorithm, central_hidden=16, central_embed=16)
    learner = trained(settings, NOT_MONOTONIC, updates=120)
    assert (greedy_actions(learner) == [0, 0]) == finds_it


def test_choosing_and_valuing_by_one_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"algorithm wqmix .*double_q"):
        check(LearnerConfig(algorithm="wqmix", double_q=False))
    check(LearnerConfig(algorithm="wqmix", double_q=False, operator="mellowmax"))
