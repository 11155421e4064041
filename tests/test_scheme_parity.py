"""Every registered scheme: agents and world in one process against the torch unroll.

Packets are encoded and decoded, deaths and several copies included, and no socket costs time; over
sockets the same is in tests/process/test_parity.py.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from agents.comm.graphs import graph_of
from agents.found import scheme_of
from agents.policy import PolicyFile, PolicySpec, initialise, views
from configs.arrays import FloatArray
from configs.columns import Q_VALUES
from configs.schema import BeaconDtype, GateTiming, MessageDtype
from envs.copies import Copies
from learner.comm.gates import GateRule
from learner.comm.unroll import UnrollInput, UnrollOutput, unroll
from learner.experience.episode import Dimensions, Episode, EpisodeJoiner
from learner.network import PolicyNetwork
from runtime.acting import Policy
from runtime.net import wire
from runtime.run.serial import SerialRun
from tests import agents_helpers, learner_helpers, world_helpers
from tests.learner_helpers import array
from tests.scheme_cases import Case, cases
from tests.world_helpers import ScriptedEnv, neighbours_by_place

SEED = 3
AGENTS = 6
EVERY_CASE = pytest.mark.parametrize("case", cases(), ids=str)


def spec_of(case: Case, message_dtype: MessageDtype) -> PolicySpec:
    task = ScriptedEnv(num_agents=AGENTS).spec
    spec = agents_helpers.make_spec(
        observation_dim=task.observation_dim,
        num_actions=task.num_actions,
        message_dtype=message_dtype,
    )
    return case.applied(spec)


def draw(spec: PolicySpec) -> FloatArray:
    flat = initialise(spec, np.random.default_rng(SEED)) * np.float32(2.0)
    if spec.scheme == "sops":
        flat[-1] = -1.5  # the scorer's last bias: some edges open and some stay shut
    return flat


def play(case: Case, spec: PolicySpec, flat: FloatArray, *, relay: bool = False) -> list[Episode]:
    """Episodes of several lengths, in which agents die."""
    roams = case.needs_position or case.moves
    envs = [
        ScriptedEnv(9, 12, num_agents=AGENTS, deaths={4: [2], 7: [0, 3]}, roams=roams),
        ScriptedEnv(11, num_agents=AGENTS, deaths={0: [5]}, roams=roams),
    ]
    rules = agents_helpers.make_rules(
        num_agents=AGENTS,
        copies=len(envs),
        spec=spec,
        comm=case.scheme,
        timing=case.timing,
        mode=scheme_of(case.scheme).gate_mode("learned"),
        relay=relay,
        ships="all",
        record_q=True,
    )
    rules = replace(rules, comm_options=case.options)
    world_rules = world_helpers.make_rules(timing=case.timing, relay=relay)
    world_rules = replace(world_rules, graph=rules.graph, moves=rules.moves)
    run = SerialRun(Copies(envs, SEED), rules, flat, world_rules, SEED)
    run.evaluate(5)
    assert not run.dropped
    assert all(core.tally.late == 0 for core in run.agents)
    joiner = EpisodeJoiner(Dimensions.of(envs[0].spec, (Q_VALUES,)))
    packets: list[wire.Trajectory | wire.EpisodeRecord] = [*run.trajectories, *run.records]
    episodes = [joiner.add(packet) for packet in packets]
    return [episode for episode in episodes if episode is not None]


def window_of(
    case: Case,
    spec: PolicySpec,
    episode: Episode,
    begin: int = 0,
    end: int | None = None,
    *,
    relay: bool = False,
) -> UnrollInput:
    """What the unroll is given of some steps of an episode."""
    steps = slice(begin, episode.length if end is None else end)
    window = learner_helpers.window_of(spec, episode, steps, relay=relay)
    if not case.moves:
        return window
    # By what was seen, and not by the edges that were used.
    pairs_TNN = [
        neighbours_by_place(seen_ND, alive_N)
        for seen_ND, alive_N in zip(episode.observations[steps], episode.alive[steps], strict=True)
    ]
    near_TNK = graph_of(case.scheme, case.options, AGENTS).edges_of(np.array(pairs_TNN))
    return replace(window, neighbours_TBNK=torch.tensor(near_TNK)[:, None])


def replayed(
    case: Case, spec: PolicySpec, flat: FloatArray, episode: Episode, *, relay: bool = False
) -> UnrollOutput:
    network = PolicyNetwork(spec, AGENTS)
    network.load_flat(flat)
    mode = scheme_of(case.scheme).gate_mode("learned")
    with torch.no_grad():
        window = window_of(case, spec, episode, relay=relay)
        return unroll(network, window, GateRule(case.timing, mode))


def hold_against_unroll(
    case: Case, flat: FloatArray, *, relay: bool = False, message_dtype: MessageDtype = "float32"
) -> None:
    """Gates are the same, and q-values as near as float32, or float16 messages, let them be."""
    spec = spec_of(case, message_dtype)
    # With float16 an entry may tip to the next number.
    tolerance = 1e-5 if message_dtype == "float32" else 2e-3
    hold_episodes(case, spec, flat, play(case, spec, flat, relay=relay), tolerance, relay=relay)


def hold_episodes(
    case: Case,
    spec: PolicySpec,
    flat: FloatArray,
    episodes: list[Episode],
    tolerance: float,
    *,
    relay: bool = False,
) -> None:
    assert len(episodes) == 5
    for episode in episodes:
        output = replayed(case, spec, flat, episode, relay=relay)
        alive_TN = episode.alive[:-1]
        gates_TNK = array(output.gates_TBNK[:, 0]) > 0.5
        bits_K: NDArray[Any] = np.array([1 << k for k in range(gates_TNK.shape[-1])])
        masks_TN = np.sum(gates_TNK * bits_K, axis=-1)
        assert_array_equal(masks_TN[alive_TN], episode.columns["gates"][alive_TN])
        q_TNA = array(output.q_TBNA[:, 0])
        scale = max(1.0, float(np.abs(q_TNA).max()))
        assert_allclose(
            q_TNA[alive_TN] / scale,
            episode.columns["q_values"][alive_TN] / scale,
            atol=tolerance,
        )


@EVERY_CASE
@pytest.mark.parametrize("dead", ["silent", "relay"])
def test_agents_do_what_the_unroll_does(case: Case, dead: str) -> None:
    hold_against_unroll(case, draw(spec_of(case, "float32")), relay=dead == "relay")


@EVERY_CASE
def test_rounded_messages_agree_as_well(case: Case) -> None:
    hold_against_unroll(case, draw(spec_of(case, "float16")), message_dtype="float16")


@pytest.mark.parametrize("timing", ["causal", "paper"])
@pytest.mark.parametrize(
    ("beacon_dtype", "beacon_period", "beacon_delta"),
    [("float16", 1, 0.0), ("float32", 3, 0.0), ("int8", 2, 0.2)],
)
def test_beacons_of_any_precision_and_age_open_the_same_gates(
    timing: GateTiming, beacon_dtype: BeaconDtype, beacon_period: int, beacon_delta: float
) -> None:
    case = Case("sops", "", timing)
    usual = replace(spec_of(case, "float32"), beacon_dtype="float32")
    spec = replace(
        usual,
        beacon_dtype=beacon_dtype,
        beacon_period=beacon_period,
        beacon_delta=beacon_delta,
    )
    flat = draw(spec)
    tensors = views(spec, flat)
    tensors["scorer_hidden.weight"][:, spec.beacon : 2 * spec.beacon] *= 6.0
    episodes = play(case, spec, flat)
    hold_episodes(case, spec, flat, episodes, tolerance=1e-5)
    differs = [
        not torch.equal(
            replayed(case, spec, flat, episode).scores_TBNK,
            replayed(case, usual, flat, episode).scores_TBNK,
        )
        for episode in episodes
    ]
    assert all(differs), "what is tried must matter"


@EVERY_CASE
def test_a_sparse_policy_loses_its_dead_units_and_nothing_else(case: Case) -> None:
    spec = spec_of(case, "float32")
    flat = draw(spec)
    rng = np.random.default_rng(SEED)
    for name, tensor in views(spec, flat).items():
        if tensor.ndim == 2:
            tensor[rng.random(tensor.shape) < 0.7] = 0.0
            tensor[:, rng.random(tensor.shape[1]) < 0.2] = 0.0
            assert not tensor.all(), name
    hold_against_unroll(case, flat)


@EVERY_CASE
def test_a_window_is_as_good_as_its_steps_one_by_one(case: Case) -> None:
    """What the scheme remembers is carried from call to call; and an episode begins with
    nothing.
    """
    spec = spec_of(case, "float16")
    flat = draw(spec)
    episode = play(case, spec, flat)[0]
    whole = replayed(case, spec, flat, episode)
    network = PolicyNetwork(spec, AGENTS)
    network.load_flat(flat)
    mode = scheme_of(case.scheme).gate_mode("learned")
    carry = None
    with torch.no_grad():
        for again in range(2):
            for t in range(episode.length):
                window = window_of(case, spec, episode, t, t + 1)
                step = unroll(network, window, GateRule(case.timing, mode), carry)
                carry = step.carry
                assert_array_equal(step.gates_TBNK[0].numpy(), whole.gates_TBNK[t].numpy())
                assert_allclose(
                    step.q_TBNA[0].numpy(), whole.q_TBNA[t].numpy(), atol=1e-5, err_msg=f"{again}"
                )
            assert carry is not None
            carry = carry.restart(torch.tensor([True]))


@EVERY_CASE
def test_a_team_acts_from_python_as_in_a_run(case: Case) -> None:
    spec = spec_of(case, "float16")
    flat = draw(spec)
    trained = {"comm": case.scheme, "gate_timing": case.timing, "dead": "silent"}
    team = Policy(PolicyFile(spec, flat, 1, trained)).team(AGENTS)
    for episode in play(case, spec, flat)[:2]:
        for observations_ND, alive_N, actions_N in zip(
            episode.observations[:-1], episode.alive[:-1], episode.actions, strict=True
        ):
            near_NN = neighbours_by_place(observations_ND, alive_N) if case.moves else None
            acted_N = team.act(observations_ND, alive_N, near_NN)
            assert_array_equal(acted_N[alive_N], actions_N[alive_N])
        team.reset()
