"""Train as you deploy: real processes over real sockets against the torch unroll, gate by gate.

The most important test of the project. An episode is played by N agent processes; what each saw,
did, sent and computed is recorded, and the learner's unroll replays it from the observations alone.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agents.policy import PolicyFile, views
from configs.schema import GateMode, GateTiming, RunConfig, Transport
from learner.episode import Episode
from learner.gates import GateRule
from learner.network import PolicyNetwork
from learner.unroll import UnrollInput, unroll
from runtime.bundle import Bundle
from runtime.evaluate import play
from tests.process.runs import (
    SilentView,
    murmuration_processes,
    run_config,
    undecided_policy,
)

Array = NDArray[Any]

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

Q_TOLERANCE = 1e-4
"""float32 sums in another order, and now and then a message that rounds to the next float16."""


def record(
    config: RunConfig,
    policy: PolicyFile,
    episodes: int,
    directory: Path,
    head: Bundle | None = None,
) -> list[Episode]:
    """Episodes of real processes; with `head` those of its run across hosts."""
    config = dataclasses.replace(config, agents=dataclasses.replace(config.agents, record_q=True))
    outcome, run = play(config, policy, episodes, directory, SilentView(), record=True, head=head)
    assert outcome.exit_code == 0, outcome.reason
    assert outcome.summary["messages_late"] == 0
    assert outcome.summary["messages_dropped"] == 0, outcome.summary["dropped_by_agents"]
    assert run.recorder is not None
    assert len(run.recorder.episodes) == episodes
    assert murmuration_processes() == []
    return run.recorder.episodes


def replay(config: RunConfig, policy: PolicyFile, episode: Episode) -> tuple[Array, Array]:
    """[T, N, A] q-values and [T, N] edge masks of the unroll, from observations alone."""
    network = PolicyNetwork(policy.spec, config.num_agents)
    network.load_flat(policy.flat)
    observations = torch.tensor(episode.observations[:-1].astype(np.float32))
    alive = torch.tensor(episode.alive[:-1])
    rule = GateRule.of(config.comm, config.gate)
    with torch.no_grad():
        output = unroll(network, UnrollInput(observations[:, None], alive[:, None]), rule)
    open_TNK: Array = output.gates_TBNK[:, 0].numpy() > 0.5
    bits_K: Array = np.array([1 << k for k in range(open_TNK.shape[-1])])
    masks_TN = np.sum(open_TNK * bits_K, axis=-1)
    return output.q_TBNA[:, 0].numpy(), masks_TN


def hold_against_unroll(config: RunConfig, policy: PolicyFile, episodes: list[Episode]) -> None:
    """Gates and actions are the same, q-values to the tolerance; says the largest difference."""
    largest = 0.0
    for episode in episodes:
        assert episode.q_values is not None
        alive_TN = episode.alive[:-1]
        q_TNA, masks_TN = replay(config, policy, episode)
        np.testing.assert_array_equal(masks_TN[alive_TN], episode.gates[alive_TN])
        np.testing.assert_array_equal(q_TNA.argmax(-1)[alive_TN], episode.actions[alive_TN])
        difference = np.abs(q_TNA - episode.q_values)[alive_TN].max()
        largest = max(largest, float(difference))
    print(
        f"{config.num_agents} agents, {config.gate.timing}, {config.runtime.transport}, "
        f"{config.network.message_dtype} messages: largest difference of q {largest:.1e}"
    )
    gates = np.concatenate([episode.gates[episode.alive[:-1]] for episode in episodes])
    assert len(np.unique(gates)) > 3, "gates must open and close for this test to mean something"
    assert any(not episode.alive.all() for episode in episodes), "somebody must die"
    assert largest < Q_TOLERANCE


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
    opened = np.concatenate([np.bitwise_count(episode.gates).ravel() for episode in episodes])
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
        int((replay(config, policy, e)[1] != replay(config, said_always, e)[1]).sum())
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
    hold_against_unroll(config, policy, record(config, policy, 4, tmp_path))


@pytest.mark.parametrize("timing", ["causal", "paper"])
def test_a_hundred_processes_do_what_the_unroll_does(timing: GateTiming, tmp_path: Path) -> None:
    config = run_config("battle", 100, timing=timing, env_options={"opponent": "scripted"})
    policy = undecided_policy(config)
    hold_against_unroll(config, policy, record(config, policy, 2, tmp_path))
