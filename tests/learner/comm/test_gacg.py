"""The group-aware coordination graph: what learns, what varies together, and who is asked.

Refusals and runs in one place are in tests/test_centralised.py.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor
from torch.nn import functional

from agents.policy import PolicySpec, initialise
from learner.comm.base import Said
from learner.comm.gacg import GacgTwin, adjacency
from learner.comm.gates import GateRule, Rows
from learner.comm.unroll import UnrollInput, UnrollOutput, unroll
from learner.network import PolicyNetwork
from tests import agents_helpers

AGENTS, STEPS, BATCH, TRAJECTORY = 6, 9, 3, 4
ALL_ALIVE = torch.ones(STEPS, BATCH, AGENTS, dtype=torch.bool)


def network_of(options: str = "", agents: int = AGENTS, seed: int = 0) -> PolicyNetwork:
    options = ",".join(filter(None, (f"trajectory={TRAJECTORY}", options)))
    spec: PolicySpec = replace(agents_helpers.make_spec(), scheme="gacg", scheme_options=options)
    network = PolicyNetwork(spec, agents)
    network.load_flat(initialise(spec, np.random.default_rng(seed)) * np.float32(2.0))
    return network


def twin_of(network: PolicyNetwork) -> GacgTwin:
    assert isinstance(network.scheme, GacgTwin)
    return network.scheme


def seen(steps: int = STEPS, batch: int = BATCH, agents: int = AGENTS) -> Tensor:
    return torch.randn(steps, batch, agents, 5, generator=torch.Generator().manual_seed(1))


def rule_of(noise: int | None = None) -> GateRule:
    generator = None if noise is None else torch.Generator().manual_seed(noise)
    return GateRule("causal", "open", noise=generator)


def played(
    network: PolicyNetwork, observations: Tensor, alive: Tensor, noise: int | None = None
) -> UnrollOutput:
    return unroll(network, UnrollInput(observations, alive), rule_of(noise))


def test_gradients_reach_attention_and_groups_which_in_the_release_they_do_not() -> None:
    network = network_of("group_loss=0")
    output = played(network, seen(), ALL_ALIVE, noise=0)
    assert output.own_loss_TB is None
    torch.autograd.backward(output.q_TBNA.square().sum())
    for name in ("pair", "embed_hidden", "group_hidden", "group_out"):
        gradient = network.tensors()[f"{name}.weight"].grad
        assert gradient is not None
        assert gradient.abs().max() > 0.0, name


def test_the_group_distance_alone_trains_groups_and_values() -> None:
    network = network_of("group_loss=1")
    output = played(network, seen(), ALL_ALIVE)
    assert output.own_loss_TB is not None
    torch.autograd.backward(output.own_loss_TB.sum())
    for name in ("group_out.weight", "q_out.weight"):
        gradient = network.tensors()[name].grad
        assert gradient is not None
        assert gradient.abs().max() > 0.0, name


def test_the_group_distance_is_distance_within_groups_over_distance_between_them() -> None:
    twin = twin_of(network_of("group_loss=0.5"))
    # Two groups of three at 0 and 4, of which one has values 0, 1, 2: their distances are 1, 1, 2.
    places = torch.tensor([0.0, 1.0, 2.0, 5.0, 5.0, 5.0])
    q_TBNA = torch.stack((places, torch.zeros(AGENTS)), dim=-1)[None, None]
    groups = functional.one_hot(torch.tensor([0, 0, 0, 1, 1, 1])).float()[None, None]
    nothing = torch.zeros(1, 1, AGENTS, 1)
    said = Said(
        messages_TBNM=nothing,
        last_BNM=nothing[0],
        scores_TBNK=nothing,
        allowed_TBNK=nothing,
        gates_TBNK=nothing,
        of_loss={
            "groups": groups,
            "grouped": torch.tensor([[True]]),
            "alive": torch.ones(1, 1, AGENTS, dtype=torch.bool),
        },
    )
    loss_TB = twin.own_loss(said, q_TBNA)
    assert loss_TB is not None
    within = (1 + 1 + 2 + 0 + 0 + 0) / 6
    between = (5 + 4 + 3) / 3
    assert loss_TB.item() == pytest.approx(0.5 * within / between, rel=1e-4)
    too_early = replace(said, of_loss=said.of_loss | {"grouped": torch.tensor([[False]])})
    early_TB = twin.own_loss(too_early, q_TBNA)
    assert early_TB is not None
    assert early_TB.item() == 0.0


def test_edges_into_one_group_vary_together_and_those_into_two_do_not() -> None:
    twin = twin_of(network_of("spread=0.5"))
    draws = 4000
    x_TBNX = torch.zeros(1, draws, AGENTS, 3)
    groups = functional.one_hot(torch.tensor([0, 1, 0, 1, 0, 0])).float()
    groups_TBNG = groups.expand(1, draws, AGENTS, 2)
    alive_TBN = torch.ones(1, draws, AGENTS, dtype=torch.bool)

    def drawn(grouped: bool) -> Tensor:
        grouped_TB = torch.full((1, draws), grouped)
        return twin.edges(x_TBNX, groups_TBNG, grouped_TB, alive_TBN, rule_of(0))[0, :, 1]

    covariance_NN = torch.cov(drawn(True).t())
    same_NN = groups @ groups.t()
    assert_allclose(covariance_NN.detach(), 0.25 * same_NN, atol=0.03)
    # Without groups an edge varies by itself; beside its group's share it keeps a thousandth.
    groups_TBNG = torch.zeros(1, draws, AGENTS, 2)
    small_NN = torch.cov(drawn(True).t()).detach()
    assert_allclose(small_NN, 0.25 * 0.001 * torch.eye(AGENTS), atol=3e-5)
    assert_allclose(torch.cov(drawn(False).t()).detach(), 0.25 * torch.eye(AGENTS), atol=0.03)


def test_groups_are_found_when_a_trajectory_is_whole() -> None:
    network = network_of("group_loss=1")
    output = played(network, seen(), ALL_ALIVE)
    assert output.own_loss_TB is not None
    assert (output.own_loss_TB[: TRAJECTORY - 1] == 0.0).all()
    assert (output.own_loss_TB[TRAJECTORY - 1 :] > 0.0).all()


def test_a_group_follows_from_the_last_observations_of_a_trajectory_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, found = network_of("group_loss=1"), list[Tensor]()

    def keep(_twin: GacgTwin, said: Said, _q_TBNA: Tensor) -> None:
        found.append(said.of_loss["groups"][-1])

    monkeypatch.setattr(GacgTwin, "own_loss", keep)

    def groups_BNG(observations: Tensor) -> Tensor:
        played(network, observations, ALL_ALIVE)
        return found.pop()

    before_BNG, last = groups_BNG(seen()), STEPS - 1
    for lag in range(TRAJECTORY + 1):
        other = seen()
        other[last - lag] += 1.0
        assert torch.equal(groups_BNG(other), before_BNG) == (lag == TRAJECTORY), f"{lag} before"
    other = seen()
    other[[last - 2, last - 1]] = other[[last - 1, last - 2]]
    assert not torch.allclose(groups_BNG(other), before_BNG, atol=1e-4)


@torch.no_grad()
def test_only_exploring_episodes_draw_edges_and_each_the_same_in_any_part_of_the_batch() -> None:
    network, window = network_of(), UnrollInput(seen(), ALL_ALIVE)
    rule = rule_of(0)
    noisy = unroll(network, window, rule).messages_TBNM
    quiet = unroll(network, window, rule_of()).messages_TBNM
    rule = replace(rule_of(0), noisy_B=torch.tensor([True, False, True]))
    both = unroll(network, window, rule).messages_TBNM
    assert torch.equal(both[:, [0, 2]], noisy[:, [0, 2]])
    assert torch.equal(both[:, 1], quiet[:, 1])
    part = UnrollInput(seen()[:, 1:], ALL_ALIVE[:, 1:])
    rule = replace(rule_of(0), rows=Rows(1, 3, BATCH))
    assert_allclose(unroll(network, part, rule).messages_TBNM, noisy[:, 1:], atol=1e-6)


@torch.no_grad()
def test_a_test_takes_the_means_and_other_episodes_of_the_batch_have_no_part() -> None:
    network, observations = network_of(), seen()
    together, again = (played(network, observations, ALL_ALIVE).q_TBNA for _ in range(2))
    assert torch.equal(together, again)
    alone = played(network, observations[:, :1], ALL_ALIVE[:, :1]).q_TBNA
    assert_allclose(alone, together[:, :1], atol=1e-6)
    noisy = played(network, observations, ALL_ALIVE, noise=0).q_TBNA
    assert not torch.allclose(noisy, together, atol=1e-4), "training draws edges"


@torch.no_grad()
def test_a_window_is_as_good_as_its_steps_one_by_one() -> None:
    network, observations = network_of(), seen()
    whole = played(network, observations, ALL_ALIVE)
    carry = None
    for t in range(STEPS):
        window = UnrollInput(observations[t : t + 1], ALL_ALIVE[:1])
        step = unroll(network, window, rule_of(), carry)
        carry = step.carry
        assert_allclose(step.q_TBNA[0], whole.q_TBNA[t], atol=1e-5)


@torch.no_grad()
def test_the_dead_are_not_heard_and_nobody_at_all_is_no_fault() -> None:
    network, observations = network_of(), seen()
    alive = ALL_ALIVE.clone()
    alive[:, 0, 2] = False
    alive[:, 1] = False
    others = [0, 1, 3, 4, 5]
    before = played(network, observations, alive)
    observations[:, 0, 2] += 1.0
    after = played(network, observations, alive)
    assert torch.equal(before.messages_TBNM[:, 0, others], after.messages_TBNM[:, 0, others])
    assert before.q_TBNA.isfinite().all()
    assert not before.gates_TBNK[:, 1].any()
    assert before.gates_TBNK[0, 2].sum() == AGENTS * (AGENTS - 1), "communication is dense"


def test_an_agent_averages_over_itself_and_edges_above_a_half() -> None:
    # Of the two directions the mean counts: 0.4, 0.9 and 0.1.
    edges = torch.tensor([[0.0, 0.1, 1.2], [0.7, 0.0, 0.1], [0.6, 0.1, 0.0]])
    weights = adjacency(edges[None, None], torch.ones(1, 1, 3, dtype=torch.bool))[0, 0]
    assert_allclose(weights, [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]], atol=1e-5)


@torch.no_grad()
def test_the_same_policy_runs_with_more_agents_than_a_mask_has_bits() -> None:
    network = network_of(agents=70)
    output = played(network, seen(2, 1, 70), torch.ones(2, 1, 70, dtype=torch.bool))
    assert output.gates_TBNK.shape == (2, 1, 70, 69)
    assert output.gates_TBNK.all()
