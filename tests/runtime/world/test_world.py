"""Lock-step: what agents are told, whom the world waits for, what it takes from them."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from runtime.net import wire
from runtime.world.commands import Refused
from tests.world_helpers import (
    NUM_AGENTS,
    ScriptedEnv,
    action,
    answer,
    gates,
    in_masks_of,
    lives,
    make_rules,
    make_world,
    observations_of,
    play,
)

EVERYBODY = list(range(NUM_AGENTS))
PAPER = make_rules(timing="paper")


# --- observations ---------------------------------------------------------------------------------


def test_every_agent_is_handed_its_own_row_of_every_copy() -> None:
    world = make_world(ScriptedEnv(5), ScriptedEnv(2, 5))
    play(world, 2, copies=2)  # the second copy is in its second episode now
    told = observations_of(world.begin_tick())
    assert sorted(told) == EVERYBODY
    assert_array_equal(told[4].observations, [[4, 2, 0], [4, 0, 1]])
    assert told[4].observations.dtype == np.float16
    assert told[4].steps.tolist() == [2, 0]
    assert told[4].episodes.tolist() == [0, 2]
    assert told[4].tick == world.tick == 3


def test_a_dead_agent_gets_no_row_and_is_told_so() -> None:
    world = make_world(ScriptedEnv(5, deaths={0: [4]}), ScriptedEnv(5))
    play(world, copies=2)
    told = observations_of(world.begin_tick())
    assert lives(told[4]) == [False, True]
    assert_array_equal(told[4].observations, [[4, 1, 0]])
    assert lives(told[3]) == [True, True]


def test_an_observation_survives_the_wire() -> None:
    world = make_world(ScriptedEnv(5), ScriptedEnv(5))
    for packet in observations_of(world.begin_tick()).values():
        decoded = wire.decode(wire.encode(packet))
        assert isinstance(decoded, wire.Observation)
        assert_array_equal(decoded.observations, packet.observations)


def test_only_agents_that_are_up_get_observations() -> None:
    world = make_world(up=[0, 2])
    assert sorted(observations_of(world.begin_tick())) == [0, 2]


# --- the masks ------------------------------------------------------------------------------------


def test_bit_k_of_an_out_mask_becomes_bit_k_of_the_receivers_in_mask() -> None:
    world = make_world(ScriptedEnv(5), ScriptedEnv(5))
    world.begin_tick()
    answer(world, copies=2, masks={1: [0b001, 0b110], 5: [0b100, 0]})
    told = observations_of(world.begin_tick())
    heard = {agent: packet.in_masks.tolist() for agent, packet in told.items()}
    # Agent 1 writes to 2, 3 and 5; agent 5 over offset 4 to 3.
    assert heard == {0: [0, 0], 1: [0, 0], 2: [1, 0], 3: [4, 2], 4: [0, 0], 5: [0, 4]}


def test_bit_k_of_a_beacon_mask_says_that_out_neighbour_k_has_acted() -> None:
    world = make_world(ScriptedEnv(5), up=[0, 1, 2, 3, 4])
    play(world)
    told = observations_of(world.begin_tick())
    # Agent 5 is missing: it is out-neighbour 0 of 4, 1 of 3 and 2 of 1.
    beacons = {agent: packet.beacon_masks.tolist() for agent, packet in told.items()}
    assert beacons == {0: [0b111], 1: [0b011], 2: [0b111], 3: [0b101], 4: [0b110]}


def test_who_has_no_news_is_there_and_has_no_beacon_under_way() -> None:
    world = make_world(ScriptedEnv(5), ScriptedEnv(5), up=[0, 1, 2, 3, 4])
    world.begin_tick()
    for agent in range(5):
        says = [agent != 1, agent != 2]  # by copy
        world.action(agent, action(1, copies=2, says=says))
    told = observations_of(world.begin_tick())
    assert told[0].peer_masks.tolist() == [0b111, 0b111]  # 1, 2 and 4
    assert told[0].beacon_masks.tolist() == [0b110, 0b101]
    # Agent 5, out-neighbour 2 of 1, has not acted at all.
    assert told[1].peer_masks.tolist() == [0b011, 0b011]
    assert told[1].beacon_masks.tolist() == [0b011, 0b010]


def test_news_of_one_tick_is_not_expected_again_in_the_next() -> None:
    world = make_world(ScriptedEnv(5))
    play(world)
    world.begin_tick()
    for agent in EVERYBODY:
        world.action(agent, action(2, says=False))
    told = observations_of(world.begin_tick())
    assert (told[0].peer_masks.tolist(), told[0].beacon_masks.tolist()) == ([0b111], [0])


@pytest.mark.parametrize("relay", [False, True])
def test_the_dead_have_a_beacon_only_if_they_relay(relay: bool) -> None:
    env = ScriptedEnv(9, deaths={0: [1]})
    world = make_world(env, rules=make_rules(relay=relay))
    play(world, 2)
    told = observations_of(world.begin_tick())
    assert told[0].beacon_masks.tolist() == [0b111 if relay else 0b110]


def test_an_agent_that_died_with_the_last_step_had_a_beacon_under_way() -> None:
    world = make_world(ScriptedEnv(9, deaths={0: [1]}))
    play(world)
    assert observations_of(world.begin_tick())[0].beacon_masks.tolist() == [0b111]


def test_a_new_episode_hears_nothing_of_the_old_one() -> None:
    world = make_world(ScriptedEnv(1, 9), ScriptedEnv(9))
    world.begin_tick()
    answer(world, copies=2, masks=dict.fromkeys(EVERYBODY, 0b111))
    for packet in observations_of(world.begin_tick()).values():
        assert packet.in_masks.tolist() == [0, 0b111]
        assert packet.beacon_masks.tolist() == [0, 0b111]


# --- paper timing ---------------------------------------------------------------------------------


def test_paper_collects_all_gates_then_hands_out_in_masks_then_collects_actions() -> None:
    env = ScriptedEnv(5)
    world = make_world(env, rules=PAPER)
    world.begin_tick()
    for agent in EVERYBODY[:-1]:
        assert world.gates(agent, gates(1, 0b001)) == []
    told = world.gates(5, gates(1, 0b110))
    assert in_masks_of(told) == {0: [0], 1: [0b011], 2: [1], 3: [0b101], 4: [1], 5: [1]}
    assert env.played == []
    answer(world)
    assert len(env.played) == 1


def test_paper_expects_beacons_of_everyone_that_is_asked_in_this_tick() -> None:
    world = make_world(up=[0, 1, 2, 3, 4], rules=PAPER)
    told = observations_of(world.begin_tick())
    assert told[0].beacon_masks.tolist() == [0b111]
    assert told[4].beacon_masks.tolist() == [0b110]


def test_paper_takes_an_action_only_after_the_gates() -> None:
    env = ScriptedEnv(5)
    world = make_world(env, rules=PAPER)
    world.begin_tick()
    assert world.action(0, action(1, 2)) == [Refused(0, "future")]
    for agent in EVERYBODY:
        world.gates(agent, gates(1))
    assert world.missing == EVERYBODY


# --- actions --------------------------------------------------------------------------------------


def test_the_copies_step_when_the_last_action_has_come() -> None:
    envs = ScriptedEnv(5), ScriptedEnv(5)
    world = make_world(*envs)
    world.begin_tick()
    answer(world, copies=2, actions={3: [1, 2]}, silent=[5])
    assert (envs[0].played, world.missing, world.may_tick) == ([], [5], False)
    world.action(5, action(1, [2, 1], copies=2))
    assert envs[0].played == [[0, 0, 0, 1, 0, 2]]
    assert envs[1].played == [[0, 0, 0, 2, 0, 1]]
    assert world.may_tick


MISFITS: dict[str, tuple[wire.Action, str]] = {
    "last tick": (action(1), "stale"),
    "next tick": (action(3), "future"),
    "other copies": (action(2, copies=2), "shape"),
    "no copies": (action(2, copies=0), "shape"),
    "no such action": (action(2, 4), "range"),
    "no such edge": (action(2, 0, 0b1000), "range"),
    "other masks": (
        wire.Action(2, 1, np.zeros(1, np.uint8), np.zeros(2, np.uint16), np.zeros(1, np.uint8)),
        "shape",
    ),
    "other beacons": (
        wire.Action(2, 1, np.zeros(1, np.uint8), np.zeros(1, np.uint16), np.zeros(2, np.uint8)),
        "shape",
    ),
}


@pytest.mark.parametrize(("packet", "reason"), MISFITS.values(), ids=MISFITS)
def test_an_action_that_does_not_fit_is_refused_by_reason(packet: wire.Action, reason: str) -> None:
    env = ScriptedEnv(9)
    world = make_world(env)
    play(world)
    world.begin_tick()
    answer(world, silent=[2])
    (refused,) = world.action(2, packet)
    assert isinstance(refused, Refused)
    assert (refused.agent, refused.reason) == (2, reason)
    assert (world.missing, len(env.played)) == ([2], 1)
    world.action(2, action(2, 1))
    assert env.played[1] == [0, 0, 1, 0, 0, 0]


def test_the_first_of_two_actions_counts() -> None:
    env = ScriptedEnv(9)
    world = make_world(env)
    world.begin_tick()
    world.action(2, action(1, 1))
    world.action(2, action(1, 2))
    answer(world)
    assert env.played == [[0, 0, 1, 0, 0, 0]]


def test_an_action_between_two_ticks_is_refused() -> None:
    env = ScriptedEnv(9)
    world = make_world(env)
    play(world)
    assert world.action(0, action(1, 2)) == [Refused(0, "stale")]
    assert len(env.played) == 1


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        (gates(1), "stale"),
        (gates(2, copies=2), "shape"),
        (gates(2, copies=0), "shape"),
        (gates(2, 0b1000), "range"),
        (gates(3), "future"),
    ],
)
def test_gates_that_do_not_fit_are_refused_by_reason(masks: wire.Gates, reason: str) -> None:
    world = make_world(rules=PAPER)
    for tick in (1, 2):
        world.begin_tick()
        if tick == 1:
            for agent in EVERYBODY:
                world.gates(agent, gates(1))
            answer(world)
    (refused,) = world.gates(0, masks)
    assert isinstance(refused, Refused)
    assert (refused.agent, refused.reason) == (0, reason)
    assert 0 in world.missing


def test_min_version_is_the_oldest_that_any_agent_acts_by() -> None:
    world = make_world(up=[0, 1])
    assert make_world(up=[]).min_version == 0
    world.begin_tick()
    world.action(0, action(1, version=7))
    world.action(1, action(1, version=5))
    assert world.min_version == 5
    world.agent_state(1, up=False)
    assert world.min_version == 7
