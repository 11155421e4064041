"""Agents and world together, in one process: see runtime/run/serial.py."""

from collections import deque
from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from configs.columns import Q_VALUES
from configs.schema import GateMode, GateTiming
from envs.base import Env
from envs.copies import Copies
from envs.relay import NUM_COLOURS, Relay
from learner.experience.episode import Dimensions, Episode, EpisodeJoiner
from runtime.net import topology, wire
from runtime.run.serial import SerialRun
from tests import agents_helpers, world_helpers
from tests.agents_helpers import OPEN_ALL, make_flat, make_spec
from tests.world_helpers import ScriptedEnv

TIMINGS: tuple[GateTiming, ...] = ("causal", "paper")
MIXED = -1.5
"""A bias of the scorer with which some edges open and some stay shut."""

Lose = Callable[[int, wire.Packet], bool]


def nothing_is_lost(_agent: int, _packet: wire.Packet) -> bool:
    return False


def make_run(
    *envs: Env,
    timing: GateTiming = "causal",
    mode: GateMode = "learned",
    relay: bool = False,
    score_bias: float = MIXED,
    train_steps: int = 0,
    seed: int = 0,
    silent: bool = False,
    lose: Lose = nothing_is_lost,
) -> SerialRun:
    """A run in which everything is recorded."""
    task = envs[0].spec
    spec = make_spec(observation_dim=task.observation_dim, num_actions=task.num_actions)
    rules = agents_helpers.make_rules(
        num_agents=task.num_agents,
        copies=len(envs),
        spec=spec,
        comm="none" if silent else "sops",
        timing=timing,
        mode=mode,
        relay=relay,
        ships="all",
        record_q=True,
    )
    world_rules = world_helpers.make_rules(
        timing=timing, relay=relay, train_steps=train_steps, epsilon=lambda _: 0.3
    )
    flat = make_flat(spec, score_bias=score_bias)
    return SerialRun(Copies(envs, seed), rules, flat, world_rules, seed, lose)


def joined(run: SerialRun) -> list[Episode]:
    """The whole episodes of a run, as the learner puts them together."""
    task = run.copies.spec
    joiner = EpisodeJoiner(Dimensions.of(task, (Q_VALUES,)))
    packets: list[wire.Trajectory | wire.EpisodeRecord] = [*run.trajectories, *run.records]
    episodes = [joiner.add(packet) for packet in packets]
    return [episode for episode in episodes if episode is not None]


def evaluated(run: SerialRun) -> Episode:
    """The one episode of an evaluation."""
    run.evaluate(1)
    (episode,) = joined(run)
    return episode


def q_of(episode: Episode) -> np.ndarray:
    return episode.columns["q_values"]


def late(run: SerialRun) -> int:
    return sum(core.tally.late for core in run.agents)


# --- messages travel ------------------------------------------------------------------------------


def source_and_colour(num_agents: int, seed: int) -> tuple[int, int]:
    (first,) = Copies([Relay(num_agents)], seed).reset()
    source = int(first.observations_ND[:, 0].argmax())
    return source, int(first.observations_ND[source, 1 : 1 + NUM_COLOURS].argmax())


def same_source_other_colour(num_agents: int) -> tuple[int, int, int]:
    """A source, and two seeds of a run in which it sees different colours."""
    source, colour = source_and_colour(num_agents, 0)
    for seed in range(1, 1000):
        other_source, other_colour = source_and_colour(num_agents, seed)
        if source == other_source and colour != other_colour:
            return source, 0, seed
    raise AssertionError("no such seed")


def hops_from(source: int, num_agents: int) -> np.ndarray:
    """[N] steps that a message needs from the source over the backbone."""
    hops = np.full(num_agents, -1)
    hops[source] = 0
    queue = deque([source])
    while queue:
        agent = queue.popleft()
        for peer in topology.out_neighbours(agent, num_agents):
            if hops[peer] < 0:
                hops[peer] = hops[agent] + 1
                queue.append(peer)
    return hops


def differs_from(num_agents: int, timing: GateTiming, mode: GateMode) -> np.ndarray:
    """[N] first step at which the source's colour changes what an agent thinks; -1: never."""
    _, *seeds = same_source_other_colour(num_agents)
    first, second = (
        q_of(evaluated(make_run(Relay(num_agents), timing=timing, mode=mode, seed=seed)))
        for seed in seeds
    )
    differs_TN = (first != second).any(axis=2)
    return np.where(differs_TN.any(axis=0), differs_TN.argmax(axis=0), -1)


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("num_agents", [2, 6, 13])
def test_over_open_edges_a_colour_travels_one_hop_a_step(
    num_agents: int, timing: GateTiming
) -> None:
    source, *_ = same_source_other_colour(num_agents)
    # No sooner and no later: this is what the relay's episode length counts on.
    assert_array_equal(differs_from(num_agents, timing, "open"), hops_from(source, num_agents))


@pytest.mark.parametrize("timing", TIMINGS)
def test_over_closed_edges_a_colour_stays_with_its_source(timing: GateTiming) -> None:
    source, *_ = same_source_other_colour(6)
    changed = differs_from(6, timing, "closed")
    assert changed[source] == 0
    assert (np.delete(changed, source) == -1).all()


def test_a_closed_gate_and_no_communication_are_the_same() -> None:
    closed = evaluated(make_run(Relay(6), mode="closed"))
    none = evaluated(make_run(Relay(6), silent=True))
    assert_array_equal(q_of(closed), q_of(none))


def test_both_timings_run_the_same_first_step_and_part_then() -> None:
    causal, paper = (
        evaluated(make_run(Relay(6), timing=timing, score_bias=OPEN_ALL)) for timing in TIMINGS
    )
    assert_array_equal(q_of(causal)[0], q_of(paper)[0])
    # paper: there is no message yet that could be sent at step 0.
    assert (causal.columns["gates"][0] == 0b111).all()
    assert (paper.columns["gates"][0] == 0).all()


# --- masks along the graph ------------------------------------------------------------------------


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize(("num_agents", "copies"), [(2, 1), (5, 3), (6, 2), (8, 1), (20, 1)])
def test_bit_k_of_an_in_mask_is_bit_k_of_the_out_mask_of_in_neighbour_k(
    num_agents: int, copies: int, timing: GateTiming
) -> None:
    heard: dict[tuple[int, int, int], int] = {}
    """Episode, step, agent -> what the world says was sent to it."""
    step_of: dict[int, tuple[list[int], list[int]]] = {}

    def tap(agent: int, packet: wire.Packet) -> bool:
        if isinstance(packet, wire.Observation):
            step_of[packet.tick] = packet.episodes.tolist(), packet.steps.tolist()
        if isinstance(packet, (wire.InMask, wire.Observation)):
            # causal: with the observation after the step; paper: within the step.
            back = 1 if isinstance(packet, wire.Observation) else 0
            if back == (1 if timing == "causal" else 0):
                episodes, steps = step_of[packet.tick]
                for copy, mask in enumerate(packet.in_masks.tolist()):
                    heard[episodes[copy], steps[copy] - back, agent] = mask
        return False

    envs = [ScriptedEnv(3 + copy, num_agents=num_agents) for copy in range(copies)]
    run = make_run(*envs, timing=timing, train_steps=40 * copies, lose=tap)
    run.run()
    compared = 0
    used: set[int] = set()
    for episode in joined(run):
        for step in range(episode.length - (1 if timing == "causal" else 0)):
            used |= set(episode.columns["gates"][step].tolist())
            for agent in range(num_agents):
                expected = 0
                for k, peer in enumerate(topology.in_neighbours(agent, num_agents)):
                    expected |= int(episode.columns["gates"][step, peer]) & (1 << k)
                assert heard[episode.number, step, agent] == expected
                compared += 1
    assert compared > 10
    assert len(used) > 1


@pytest.mark.parametrize("timing", TIMINGS)
def test_every_message_crosses_an_edge_that_its_senders_mask_names(timing: GateTiming) -> None:
    sent: set[tuple[int, int, int]] = set()
    """Tick, sender, receiver."""

    def tap(agent: int, packet: wire.Packet) -> bool:
        if isinstance(packet, wire.Message):
            sent.add((packet.tick, packet.sender, agent))
        return False

    run = make_run(ScriptedEnv(6), timing=timing, train_steps=6, lose=tap)
    run.run()
    (episode,) = joined(run)
    named = {
        (step + 1, sender, peer)
        for step in range(6)
        for sender in range(6)
        for k, peer in enumerate(topology.out_neighbours(sender, 6))
        if int(episode.columns["gates"][step, sender]) >> k & 1
    }
    assert {packet for packet in sent if packet[0] <= 6} == named
    assert 0 < len(named) < 6 * 6 * 3


# --- what is lost ---------------------------------------------------------------------------------


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("kind", [wire.Message, wire.Beacon])
def test_a_lost_packet_costs_one_deadline_and_no_hang(
    kind: type[wire.Packet], timing: GateTiming
) -> None:
    lost: list[wire.Packet] = []

    def lose_one(_agent: int, packet: wire.Packet) -> bool:
        if isinstance(packet, kind) and not lost and getattr(packet, "tick", 0) == 2:
            lost.append(packet)
            return True
        return False

    run = make_run(ScriptedEnv(5), timing=timing, score_bias=OPEN_ALL, lose=lose_one)
    episode = evaluated(run)
    assert (len(lost), late(run), run.world.missed_deadlines) == (1, 1, 0)
    assert (episode.length, run.results[0].length) == (5, 5)


def test_without_losses_nothing_is_late_and_nothing_is_refused() -> None:
    for timing in TIMINGS:
        run = make_run(ScriptedEnv(5, deaths={1: [2]}), ScriptedEnv(3), timing=timing)
        run.evaluate(4)
        assert (late(run), run.dropped, run.world.missed_deadlines) == (0, [], 0)


@pytest.mark.parametrize("timing", TIMINGS)
def test_an_agent_that_hears_nothing_for_a_while_costs_one_deadline(timing: GateTiming) -> None:
    def deaf(agent: int, packet: wire.Packet) -> bool:
        return agent == 2 and getattr(packet, "tick", 0) in (2, 3, 4)

    run = make_run(ScriptedEnv(8, 4), timing=timing, score_bias=OPEN_ALL, lose=deaf)
    run.evaluate(2)
    assert run.world.missed_deadlines == 1
    assert [record.complete for record in run.records] == [0, 1]
    assert [episode.length for episode in joined(run)] == [4]


@pytest.mark.parametrize("timing", TIMINGS)
def test_an_agent_that_is_started_again_spoils_its_episode_and_no_other(
    timing: GateTiming,
) -> None:
    run = make_run(ScriptedEnv(4), timing=timing, train_steps=12)
    run.tick()
    run.tick()
    run.restart(3)
    run.run()
    assert [record.complete for record in run.records] == [0, 1, 1]
    assert [episode.number for episode in joined(run)] == [1, 2]
    assert run.world.missed_deadlines == 0


# --- what the learner gets ------------------------------------------------------------------------


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("relay", [False, True])
def test_trajectories_and_records_join_into_whole_episodes(timing: GateTiming, relay: bool) -> None:
    deaths = {0: [1], 2: [3, 4]}
    envs = [ScriptedEnv(4, 3, deaths=deaths), ScriptedEnv(5, terminates=False), ScriptedEnv(2)]
    run = make_run(*envs, timing=timing, relay=relay, train_steps=60)
    run.run()
    episodes = {episode.number: episode for episode in joined(run)}
    assert sorted(episodes) == sorted(result.episode for result in run.results)
    assert len(episodes) >= 18
    first, second = episodes[0], episodes[1]
    assert (first.length, first.terminated) == (4, True)
    assert (second.length, second.terminated) == (5, False)
    # Agents 1, 3 and 4 see moments 0, and 0 to 2; the others see the end.
    assert_array_equal(first.lifetimes, [5, 1, 5, 3, 3, 5])
    for step in range(4):
        alive = first.alive[step]
        assert_array_equal(first.observations[step, :, 1], np.where(alive, step, 0))
        assert (first.actions[step, ~alive] == 0).all()
    # Rewards are the actions that were played.
    assert_array_equal(second.rewards, second.actions)


def test_equal_seeds_give_equal_runs() -> None:
    def course(seed: int) -> list[bytes]:
        run = make_run(ScriptedEnv(4), ScriptedEnv(3), train_steps=24, seed=seed)
        run.run()
        packets: list[wire.Packet] = [*run.trajectories, *run.records, *run.results]
        return [wire.encode(packet) for packet in packets]

    assert course(1) == course(1)
    assert course(1) != course(2)


@pytest.mark.parametrize("relay", [False, True])
@pytest.mark.parametrize("timing", TIMINGS)
def test_agents_count_and_send_for_the_episodes_of_an_evaluation_alone(
    timing: GateTiming, relay: bool
) -> None:
    said = np.zeros(3, dtype=int)

    def note(_agent: int, packet: wire.Packet) -> bool:
        if isinstance(packet, wire.Message | wire.Beacon):
            said[:] += np.unpackbits(packet.copies, count=3, bitorder="little")
        return False

    # The second agent dies; where the dead relay, it speaks on, and falls silent in a copy that
    # rests.
    envs = [ScriptedEnv(length, deaths={0: [1]}) for length in (6, 2, 4)]
    run = make_run(*envs, timing=timing, relay=relay, score_bias=OPEN_ALL, lose=note)
    run.evaluate(2)
    figures = run.world.kill.aftermath.figures()
    tallies = [agent.tally for agent in run.agents]
    assert sum(tally.agent_steps for tally in tallies) == figures["evaluated_agent_steps"]
    assert sum(tally.edges_open for tally in tallies) == figures["evaluated_edges_open"]
    assert figures["evaluated_agent_steps"] == sum(6 + 5 * (length - 1) for length in (6, 2))
    long, short, unneeded = said.tolist()
    assert unneeded == 0
    assert 0 < short < long / 2
