"""Train as you deploy: real processes over real sockets against the torch unroll, gate by gate.

The most important test of the project. An episode is played by N agent processes; what each saw,
did, sent and computed is recorded, and the learner's unroll replays it from the observations alone.

Gates are the same. q-values differ by no more than rounding explains: 1e-5 with float32 messages;
with float16 messages, where an entry may tip to the next number, 2^-11 (the spacing just below 1)
times what a q owes to one entry of a message, times the entries that may tip at once
(tests/process/parity_bound.py derives it for each policy: 6e-4 to 1e-3 for the shipped Battle
policy with 16 to 64 agents, where up to 1.6e-4 was seen; under 1e-4 for undecided ones, where 1e-6
was seen). Actions are the same, but where two q-values are nearer than twice that bound.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agents.comm.graphs import moves
from agents.found import scheme_of
from agents.policy import PolicyFile, views
from configs.arrays import BoolArray
from configs.schema import EnvName, GateMode, GateTiming, RunConfig, Transport
from configs.shipped import SHIPPED, policy_path
from envs.battle.map import deploy
from envs.gather.layout import lay_out
from envs.neighbours import neighbours
from learner.comm.gates import GateRule
from learner.comm.unroll import unroll
from learner.experience.episode import Episode
from learner.network import PolicyNetwork
from runtime import evaluate
from runtime.deployment.bundle import Bundle
from runtime.evaluate import play
from runtime.run.placer import Placer
from tests.learner_helpers import window_of
from tests.process.parity_bound import bound
from tests.process.runs import (
    SilentView,
    murmuration_processes,
    run_config,
    undecided_policy,
)
from tests.scheme_cases import Case, cases

Array = NDArray[Any]

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


def record(
    config: RunConfig,
    policy: PolicyFile,
    episodes: int,
    directory: Path,
    head: Bundle | None = None,
    placer: Placer | None = None,
) -> list[Episode]:
    """Episodes of real processes; with `head` those of its run across hosts."""
    config = dataclasses.replace(config, agents=dataclasses.replace(config.agents, record_q=True))
    outcome, run = play(
        config, policy, episodes, directory, SilentView(), record=True, head=head, placer=placer
    )
    assert outcome.exit_code == 0, outcome.reason
    assert outcome.summary["messages_late"] == 0
    dropped = dict(outcome.summary["dropped_by_agents"])
    # Nobody waits for what was said to somebody who has died since, or in an episode's last step;
    # where an edge is opened for it, the handshake may take longer than two steps.
    stale = dropped.pop("stale", 0) if moves(config.comm, config.comm_options) else 0
    assert outcome.summary["messages_dropped"] == stale, dropped
    assert run.recorder is not None
    assert len(run.recorder.episodes) == episodes
    assert murmuration_processes() == []
    return run.recorder.episodes


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """An episode as the unroll plays it, from observations alone."""

    q_TNA: Array
    masks_TN: Array
    """[T, N] or [T, N, W] masks of the out-edges that were used."""
    bound: float
    """How far q-values may be from those of the agents."""


def neighbours_of(config: RunConfig, episode: Episode) -> BoolArray:
    """[T, N, N] who was near, by the positions with which observations end."""
    size = config.num_agents
    name = config.env.name
    map_size = deploy(size).map_size if name == "battle" else lay_out(size).map_size
    found: list[BoolArray] = []
    for seen_ND, alive_N in zip(episode.observations[:-1], episode.alive[:-1], strict=True):
        living_L = np.flatnonzero(alive_N)
        places_L2 = seen_ND[living_L, -2:].astype(np.float64)
        cells_L2 = ((places_L2 + 1.0) / 2.0 * (map_size - 1)).round().astype(np.int64)
        found.append(neighbours(size, living_L, cells_L2))
    return np.array(found)


def replay(config: RunConfig, policy: PolicyFile, episode: Episode, agent_steps: int = 1) -> Replay:
    """Play a recorded episode again; `agent_steps` of all that are compared decide the bound."""
    network = PolicyNetwork(policy.spec, config.num_agents)
    network.load_flat(policy.flat)
    rule = GateRule.of(config.comm, config.gate)
    window = window_of(policy.spec, episode, relay=config.agents.dead == "relay")
    if network.scheme.moves:
        near_TNK = network.scheme.graph.edges_of(neighbours_of(config, episode))
        window = dataclasses.replace(window, neighbours_TBNK=torch.tensor(near_TNK)[:, None])
    with torch.no_grad():
        output = unroll(network, window, rule)
    open_TNK: Array = output.gates_TBNK[:, 0].numpy() > 0.5
    masks_TN = network.scheme.graph.edge_bits.pack(open_TNK)
    limit = bound(network, window, rule, agent_steps)
    return Replay(output.q_TBNA[:, 0].numpy(), masks_TN, limit)


def hold_against_unroll(
    config: RunConfig,
    policy: PolicyFile,
    episodes: list[Episode],
    amplified: float = 1.0,
    *,
    varied: bool = True,
    deaths: bool = True,
) -> None:
    """Gates are the same, q-values and actions within the bound; says the largest difference.

    Args:
        amplified: how many times the bound is allowed, for weights that no training would give.
        varied: a learned gate must be seen to open and to close.
        deaths: somebody must be seen to die.
    """
    agent_steps = sum(int(episode.alive[:-1].sum()) for episode in episodes)
    largest, limit, others = 0.0, 0.0, 0
    for episode in episodes:
        alive_TN = episode.alive[:-1]
        again = replay(config, policy, episode, agent_steps)
        np.testing.assert_array_equal(again.masks_TN[alive_TN], episode.columns["gates"][alive_TN])
        q_RA, actions_R = again.q_TNA[alive_TN], episode.actions[alive_TN].astype(np.int64)
        difference = float(np.abs(q_RA - episode.columns["q_values"][alive_TN]).max())
        allowed = amplified * again.bound
        assert difference <= allowed
        behind_R = q_RA.max(-1) - np.take_along_axis(q_RA, actions_R[:, None], -1)[:, 0]
        assert behind_R.max() <= 2 * allowed, "another action is a tie"
        others += int((q_RA.argmax(-1) != actions_R).sum())
        largest, limit = max(largest, difference), max(limit, allowed)
    print(
        f"{config.num_agents} agents, {config.gate.timing}, {config.runtime.transport}, "
        f"{policy.spec.message_dtype} messages: largest difference of q {largest:.1e}, "
        f"bound {limit:.1e}, {others} of {agent_steps} actions differ"
    )
    gates = np.concatenate([episode.columns["gates"][episode.alive[:-1]] for episode in episodes])
    match scheme_of(config.comm).gate_mode(config.gate.mode):
        case "learned" if varied:
            assert len(np.unique(gates)) > 3, "gates open and close if this test means something"
        case "learned" | "open":
            assert gates.any()
        case "closed":
            assert not gates.any(), "agents that never speak send nothing"
    if deaths:
        assert any(not episode.alive.all() for episode in episodes), "somebody must die"


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
@pytest.mark.parametrize("timing", ["causal", "paper"])
def test_eight_processes_do_what_the_unroll_does(
    timing: GateTiming, transport: Transport, tmp_path: Path
) -> None:
    config = run_config(
        "battle", 8, timing=timing, transport=transport, env_options={"opponent": "scripted"}
    )
    policy = undecided_policy(config)
    hold_against_unroll(config, policy, record(config, policy, 4, tmp_path))


def case_config(case: Case) -> RunConfig:
    return run_config(
        "battle",
        8,
        timing=case.timing,
        env_options={"opponent": "scripted", "options": case.env_options},
        comm=case.scheme,
        comm_options=case.options,
    )


def also_slow(case: Case) -> bool:
    """Each scheme's first case is played each time, but for SOPS, whose tests are above."""
    return case.scheme == "sops" or bool(case.options) or case.timing != "causal"


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.slow) if also_slow(c) else c for c in cases()],
    ids=str,
)
def test_processes_with_any_scheme_do_what_the_unroll_does(case: Case, tmp_path: Path) -> None:
    config = case_config(case)
    policy = undecided_policy(config)
    hold_against_unroll(config, policy, record(config, policy, 4, tmp_path))


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow) for c in cases()], ids=str
)
def test_the_dead_of_any_scheme_relay_as_in_the_unroll(case: Case, tmp_path: Path) -> None:
    config = case_config(case)
    config = dataclasses.replace(config, agents=dataclasses.replace(config.agents, dead="relay"))
    policy = undecided_policy(config)
    # This policy's gates close towards the dead alone, and nobody is dead to the others here.
    hold_against_unroll(config, policy, record(config, policy, 4, tmp_path), varied=False)


@pytest.mark.parametrize(
    ("timing", "mode", "budget"),
    [("causal", "learned", 1), ("paper", "open", 2)],
)
def test_a_budget_leaves_the_same_edges_open(
    timing: GateTiming, mode: GateMode, budget: int, tmp_path: Path
) -> None:
    config = run_config("battle", 8, timing=timing, mode=mode, env_options={"opponent": "scripted"})
    config = dataclasses.replace(config, gate=dataclasses.replace(config.gate, budget=budget))
    policy = undecided_policy(config)
    episodes = record(config, policy, 4, tmp_path)
    hold_against_unroll(config, policy, episodes)
    opened = np.concatenate(
        [np.bitwise_count(episode.columns["gates"]).ravel() for episode in episodes]
    )
    assert opened.max() == budget, "the budget must be what limits somebody"


@pytest.mark.parametrize("timing", ["causal", "paper"])
def test_silence_means_the_same_to_agents_and_unroll(timing: GateTiming, tmp_path: Path) -> None:
    """Beacons that have hardly changed are not said, with deaths among those who hear of it."""
    config = run_config("battle", 8, timing=timing, env_options={"opponent": "scripted"})
    network = dataclasses.replace(config.network, beacon_delta=0.1)
    config = dataclasses.replace(config, network=network)
    policy = undecided_policy(config)
    tensors = views(policy.spec, policy.flat)
    receiver = slice(network.beacon, 2 * network.beacon)
    tensors["scorer_hidden.weight"][:, receiver] *= 4.0  # what is heard of others tips the gates
    tensors["scorer_out.bias"][...] = -0.5
    episodes = record(config, policy, 4, tmp_path)
    hold_against_unroll(config, policy, episodes)
    said_always = dataclasses.replace(
        policy, spec=dataclasses.replace(policy.spec, beacon_delta=0.0)
    )
    changed = sum(
        int((replay(config, policy, e).masks_TN != replay(config, said_always, e).masks_TN).sum())
        for e in episodes
    )
    assert changed > 0, "what is not said must matter for this test to mean something"


@pytest.mark.parametrize("timing", ["causal", "paper"])
def test_unrounded_messages_that_matter_much_agree_as_well(
    timing: GateTiming, tmp_path: Path
) -> None:
    """Without float16 nothing can tip to the next number, so larger weights may be put to the
    test.
    """
    config = run_config("battle", 8, timing=timing, env_options={"opponent": "scripted"})
    network = dataclasses.replace(config.network, message_dtype="float32", beacon_dtype="float32")
    config = dataclasses.replace(config, network=network)
    policy = undecided_policy(config, loud=True)
    # Six layers with three times the weights blow up float32's own differences: 1.4e-5 was seen.
    hold_against_unroll(config, policy, record(config, policy, 4, tmp_path), amplified=4.0)


def trained_policy(env: EnvName, num_agents: int) -> tuple[RunConfig, PolicyFile]:
    """The policy that is shipped, played as it was trained."""
    path = policy_path(SHIPPED, env)
    options = evaluate.EvaluateOptions(
        policy=str(path), env=env, agents=num_agents, env_copies=2, opponent="scripted"
    )
    return evaluate.resolve(options)


@pytest.mark.parametrize(
    "num_agents", [16, *(pytest.param(n, marks=pytest.mark.slow) for n in (33, 64))]
)
def test_a_trained_policy_does_what_the_unroll_does(num_agents: int, tmp_path: Path) -> None:
    """Its messages matter more than those of undecided ones, and now and then one tips."""
    config, policy = trained_policy("battle", num_agents)
    assert policy.spec.message_dtype == "float16"
    hold_against_unroll(config, policy, record(config, policy, 2, tmp_path))


def test_a_trained_policy_with_float32_messages_is_far_below(tmp_path: Path) -> None:
    config, policy = trained_policy("battle", 16)
    spec = dataclasses.replace(policy.spec, message_dtype="float32")
    policy = dataclasses.replace(policy, spec=spec)
    network = dataclasses.replace(config.network, message_dtype="float32")
    config = dataclasses.replace(config, network=network)
    hold_against_unroll(config, policy, record(config, policy, 2, tmp_path))


@pytest.mark.parametrize("timing", ["causal", pytest.param("paper", marks=pytest.mark.slow)])
def test_a_hundred_processes_do_what_the_unroll_does(timing: GateTiming, tmp_path: Path) -> None:
    config = run_config("battle", 100, timing=timing, env_options={"opponent": "scripted"})
    policy = undecided_policy(config)
    hold_against_unroll(config, policy, record(config, policy, 2, tmp_path))
