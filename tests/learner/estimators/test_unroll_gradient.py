"""The learner's own update of a tiny unroll against the exact gradient of its expected loss.

Three agents play three steps, so twelve gates can be drawn that anybody hears: 4096 configurations.
All of them are unrolled at once in float64, as rows whose gates were recorded. The expected loss is
differentiated by differences along random directions, so nothing here relies on backward.

    J(w) = sum over C of P(C; w) L(C; w)        TD targets held at those of the parameters w
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from configs.schema import GateConfig, GateEstimator, GateTiming, LearnerConfig, RunConfig
from learner.comm.gates import GateRule
from learner.comm.unroll import UnrollInput, UnrollOutput, unroll
from learner.experience.episode import Dimensions, Episode
from learner.learner import Learner
from learner.network import PolicyNetwork
from tests.learner_helpers import make_config, make_flat, make_spec

AGENTS, STEPS, EDGES, GAMMA = 3, 3, 2, 0.9
DRAWN = 2 * AGENTS * EDGES
"""Gates that somebody hears in the steps of the loss."""
SIZES = Dimensions(num_agents=AGENTS, observation_dim=5, num_actions=4, state_dim=3)
SPEC = make_spec(message_dtype="float32", beacon_dtype="float32")
FLAT = make_flat(SPEC, gain=2.5)
FLAT[-1] = -0.5
ROWS, UPDATES = 1000, 20
SCORER = ("beacon", "edge", "scorer_hidden", "scorer_out")
"""Layers of which nothing but gates depends."""


def make_tiny_episode() -> Episode:
    rng = np.random.default_rng(6)
    return Episode(
        dimensions=SIZES,
        number=0,
        env_steps=STEPS,
        observations=rng.normal(size=(STEPS + 1, AGENTS, 5)).astype(np.float32),
        actions=rng.integers(0, 4, (STEPS, AGENTS)).astype(np.uint8),
        rewards=rng.normal(size=(STEPS, AGENTS)).astype(np.float32),
        states=rng.normal(size=(STEPS + 1, 3)).astype(np.float32),
        alive=np.ones((STEPS + 1, AGENTS), dtype=np.bool_),
        terminated=False,
        columns={"gates": np.zeros((STEPS, AGENTS), dtype=np.uint16)},
        first_versions=np.ones(AGENTS, dtype=np.uint32),
        last_versions=np.ones(AGENTS, dtype=np.uint32),
    )


@dataclass(frozen=True)
class Case:
    estimator: GateEstimator
    timing: GateTiming
    algorithm: str

    @property
    def run(self) -> RunConfig:
        config = LearnerConfig(
            device="cpu", algorithm=self.algorithm, batch_size=ROWS, learning_starts=1, gamma=GAMMA
        )
        gate = GateConfig(timing=self.timing, estimator=self.estimator)
        run = make_config(gate=gate, learner=config)
        network = replace(run.network, message_dtype="float32", beacon_dtype="float32")
        return replace(run, num_agents=AGENTS, network=network)


def unrolled(network: PolicyNetwork, timing: GateTiming, gates_TBNK: Tensor | None) -> UnrollOutput:
    """The episode, once for each row of gates; None: as deployed, once."""
    rows = 1 if gates_TBNK is None else gates_TBNK.shape[1]
    seen_TND = torch.tensor(make_tiny_episode().observations, dtype=torch.float64)
    seen_TBND = seen_TND.unsqueeze(1).expand(-1, rows, -1, -1)
    window = UnrollInput(seen_TBND, torch.ones(STEPS + 1, rows, AGENTS, dtype=torch.bool))
    return unroll(network, window, GateRule(timing, "learned", recorded_TBNK=gates_TBNK))


def network_at(flat_P: Tensor) -> PolicyNetwork:
    network = PolicyNetwork(SPEC, AGENTS).double()
    torch.nn.utils.vector_to_parameters(flat_P, network.parameters())
    return network


def origin() -> Tensor:
    """[P] the learner's parameters, in the order of `network.parameters()`."""
    network = PolicyNetwork(SPEC, AGENTS)
    network.load_flat(FLAT)
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().double()


@torch.no_grad()
def expected_loss(flat_P: Tensor, timing: GateTiming, algorithm: str) -> float:
    episode = make_tiny_episode()
    rewards_TN = torch.tensor(episode.rewards, dtype=torch.float64)
    actions_TN1 = torch.tensor(episode.actions, dtype=torch.int64).unsqueeze(-1)
    # Targets: online and target network are equal, so the best action's value is the largest.
    deployed = unrolled(network_at(origin()), timing, None).q_TBNA[1:, 0]
    next_TN = deployed.amax(-1)

    bits = (torch.arange(1 << DRAWN).unsqueeze(-1) >> torch.arange(DRAWN)) & 1
    first = 0 if timing == "causal" else 1  # the first of two steps whose gates are heard
    gates_TBNK = torch.zeros(STEPS + 1, 1 << DRAWN, AGENTS, EDGES, dtype=torch.bool)
    drawn = bits.bool().view(-1, 2, AGENTS, EDGES).transpose(0, 1)
    gates_TBNK[first : first + 2] = drawn
    output = unrolled(network_at(flat_P), timing, gates_TBNK)
    scores = output.scores_TBNK[first : first + 2]
    probability_B = torch.sigmoid(torch.where(drawn, scores, -scores)).prod(0).flatten(1).prod(-1)
    assert float(probability_B.sum()) == pytest.approx(1.0)

    chosen_TBN = output.q_TBNA[:-1].gather(-1, actions_TN1.unsqueeze(1).expand(-1, 4096, -1, -1))
    chosen_TBN = chosen_TBN.squeeze(-1)
    if algorithm == "vdn":
        targets_T = rewards_TN.mean(-1) + GAMMA * next_TN.sum(-1)
        loss_B = (chosen_TBN.sum(-1) - targets_T.unsqueeze(-1)).square().mean(0)
    else:
        targets_TN = rewards_TN + GAMMA * next_TN
        loss_B = (chosen_TBN - targets_TN.unsqueeze(1)).square().mean((0, 2))
    return float(probability_B @ loss_B)


def directions() -> Tensor:
    """[V, P] of unit length; the first half move nothing but the scorer's layers."""
    network = PolicyNetwork(SPEC, AGENTS)
    scorer_P = torch.cat(
        [
            torch.full((parameter.numel(),), float(name.split(".")[0] in SCORER))
            for name, parameter in network.named_parameters()
        ]
    )
    vectors = torch.randn(12, len(scorer_P), generator=torch.Generator().manual_seed(1)).double()
    vectors[:6] *= scorer_P
    return vectors / vectors.square().sum(-1, keepdim=True).sqrt()


def length(vector: Tensor) -> float:
    return float(vector.square().sum().sqrt())


@cache
def exact_slopes(timing: GateTiming, algorithm: str) -> Tensor:
    """[V] of the expected loss along the directions."""
    h, at = 1e-4, origin()
    return torch.tensor(
        [
            (
                expected_loss(at + h * v, timing, algorithm)
                - expected_loss(at - h * v, timing, algorithm)
            )
            / (2.0 * h)
            for v in directions()
        ],
        dtype=torch.float64,
    )


def make_learner(case: Case, rows: int = ROWS) -> Learner:
    learner = Learner(case.run, SPEC, SIZES, FLAT)
    for _ in range(rows):
        learner.add(make_tiny_episode())
    return learner


def estimated_slopes(case: Case) -> Tensor:
    """[UPDATES, V] by the gradients of updates, each a mean over ROWS draws."""
    learner = make_learner(case)
    slopes: list[Tensor] = []
    for _ in range(UPDATES):
        learner.compute_gradient()
        gradients = [
            torch.zeros_like(p) if p.grad is None else p.grad for p in learner.network.parameters()
        ]
        slopes.append(directions() @ torch.cat([g.flatten() for g in gradients]).double())
    return torch.stack(slopes)


@pytest.mark.parametrize(
    ("timing", "algorithm"),
    [
        ("causal", "vdn"),
        ("paper", "iql"),
        pytest.param("causal", "iql", marks=pytest.mark.slow),
        pytest.param("paper", "vdn", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("estimator", ["score-function", "arm"])
def test_the_update_is_unbiased(
    estimator: GateEstimator, timing: GateTiming, algorithm: str
) -> None:
    slopes = estimated_slopes(Case(estimator, timing, algorithm))
    error = slopes.std(0) / UPDATES**0.5
    exact = exact_slopes(timing, algorithm)
    assert bool(((slopes.mean(0) - exact).abs() < 4.0 * error).all())
    # What gates alone decide is known well enough to tell.
    assert length(error[:6]) < 0.15 * length(exact[:6])


def test_straight_through_varies_less_and_is_biased() -> None:
    slopes = estimated_slopes(Case("straight-through", "causal", "vdn"))
    off = (slopes.mean(0) - exact_slopes("causal", "vdn")).abs()
    assert bool((off[:6] > 8.0 * slopes.std(0)[:6] / UPDATES**0.5).any())
    arm = estimated_slopes(Case("arm", "causal", "vdn"))
    assert length(slopes.std(0)[:6]) < length(arm.std(0)[:6])


@pytest.mark.parametrize("estimator", ["straight-through", "score-function", "arm"])
def test_an_update_moves_the_scorer(estimator: GateEstimator) -> None:
    learner = make_learner(Case(estimator, "causal", "vdn"), rows=8)
    before = {name: p.detach().clone() for name, p in learner.network.named_parameters()}
    learner.update()
    for name, parameter in learner.network.named_parameters():
        if name.split(".")[0] in SCORER:
            assert not torch.equal(parameter, before[name]), name
