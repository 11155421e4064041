"""Episodes in pieces: agents, world and unroll agree about them across every cut."""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from configs.arrays import BoolArray
from configs.columns import CARRY, GATES, PRESENT, Q_VALUES
from configs.schema import GateTiming
from envs.base import Env
from learner.comm.gates import GateRule, open_edges_of
from learner.comm.unroll import Carry, UnrollInput, begun_lives, unroll
from learner.experience.episode import Episode
from runtime.run.serial import SerialRun
from tests.agents_helpers import dense
from tests.learner_helpers import make_network
from tests.piece_run import joined, make_piece_run, played_pieces
from tests.rich_env import RichEnv
from tests.uneven_env import UnevenEnv
from tests.world_helpers import ScriptedEnv

STEPS, ROLLOUTS, COPIES = 5, 6, 3


def uneven(copies: int = COPIES, **given: Any) -> list[Env]:
    return [UnevenEnv(**given) for _ in range(copies)]


def q_of_unroll(run: SerialRun, piece: Episode, *, carried: bool = True) -> np.ndarray:
    """[T, N, A] what the learner's unroll makes of a piece, by the recorded gates."""
    rules = run.rules
    network = make_network(rules.spec, rules.num_agents, run.parameters.flat)
    alive_TBN = torch.tensor(piece.alive[:-1]).unsqueeze(1)
    start_B = torch.tensor([piece.piece.start])
    window = UnrollInput(
        torch.tensor(piece.observations[:-1].astype(np.float32)).unsqueeze(1),
        torch.ones_like(alive_TBN) if rules.dead == "relay" else alive_TBN,
        start_B=start_B,
        begins_TBN=begun_lives(alive_TBN, alive_TBN[0]) if rules.comes_back else None,
        actions_TBN=torch.tensor(piece.actions.astype(np.int64)).unsqueeze(1),
    )
    masks = torch.tensor(piece.columns[GATES.name].astype(np.int64)).unsqueeze(1)
    recorded = open_edges_of(masks, rules.graph.num_edges)
    if rules.moves:
        window = replace(window, neighbours_TBNK=recorded)
    rule = GateRule(rules.gate_timing, rules.gate_mode, recorded_TBNK=recorded)
    carry = None
    if carried:
        rows_BNX = torch.tensor(piece.columns[CARRY.name])
        present_BN = torch.tensor(piece.columns[PRESENT.name]) != 0
        carry = Carry.of_rows(network, rows_BNX, present_BN, start_B)
    with torch.no_grad():
        return unroll(network, window, rule, carry).q_TBNA[:, 0].numpy()


def furthest(run: SerialRun, pieces: list[Episode], **given: Any) -> float:
    """Largest difference of the agents' values from those of the unroll."""
    differences: list[float] = []
    for piece in pieces:
        apart_TNA = np.abs(q_of_unroll(run, piece, **given) - piece.columns[Q_VALUES.name])
        lives_TN: BoolArray = piece.alive[:-1]
        if lives_TN.any():
            differences.append(float(apart_TNA[lives_TN].max()))
    return max(differences)


@pytest.mark.parametrize("timing", ["causal", "paper"])
def test_the_unroll_begins_pieces_with_what_agents_remembered(timing: GateTiming) -> None:
    network = {"beacon_delta": 0.02, "beacon_period": 2} if timing == "causal" else {}
    run = make_piece_run(uneven(), STEPS, ROLLOUTS, timing=timing, network=network)
    pieces = played_pieces(run)
    within = [piece for piece in pieces if piece.piece.start]
    assert len(within) > ROLLOUTS, "many cuts"
    assert furthest(run, pieces) < 1e-3
    assert furthest(run, within, carried=False) > 0.02


def test_who_relays_after_its_death_is_carried_as_well() -> None:
    run = make_piece_run(uneven(), STEPS, ROLLOUTS, comm="full", relay=True)
    pieces = played_pieces(run)
    assert furthest(run, pieces) < 1e-3
    silent = replace(run.rules, dead="silent")
    run.rules = silent
    assert furthest(run, pieces) > 0.02, "the dead are heard"


@pytest.mark.parametrize(
    ("comm", "options"),
    [
        ("none", ""),
        ("full", ""),
        ("expocomm-static", ""),
        ("expocomm-one-peer", ""),
        ("budget-k", "k=2,distance=ring"),
        ("mfq", ""),
        ("dgn", "heads=2,head_size=4"),
    ],
)
def test_whatever_the_scheme_remembers_is_carried(comm: str, options: str) -> None:
    run = make_piece_run(uneven(), STEPS, ROLLOUTS, comm=comm, comm_options=options)
    assert furthest(run, played_pieces(run)) < 1e-3


def test_who_was_near_before_a_cut_is_heard_behind_it() -> None:
    envs: list[Env] = [
        ScriptedEnv(*lengths, deaths={3: [1], 6: [4]}, roams=True) for lengths in ((9, 6), (12,))
    ]
    run = make_piece_run(
        envs, STEPS, ROLLOUTS, comm="full", comm_options="neighbours=true", relay=False
    )
    pieces = played_pieces(run)
    assert furthest(run, pieces) < 1e-3
    within = [piece for piece in pieces if piece.piece.start]
    assert furthest(run, within, carried=False) > 0.02


@pytest.mark.parametrize("timing", ["causal", "paper"])
def test_who_lives_again_is_carried_while_it_is_dead(timing: GateTiming) -> None:
    envs: list[Env] = [
        RichEnv(length, away={2: [1], 3: [1, 4], 4: [4, 2], 5: [2]}) for length in (9, 6)
    ]
    run = make_piece_run(envs, 4, ROLLOUTS, timing=timing)
    assert furthest(run, played_pieces(run)) < 1e-3


def test_every_step_of_every_copy_is_in_exactly_one_piece() -> None:
    envs = uneven()
    run = make_piece_run(envs, STEPS, ROLLOUTS)
    pieces = played_pieces(run)
    by_copy: dict[int, list[Episode]] = defaultdict(list)
    for piece in sorted(pieces, key=lambda piece: piece.number):
        by_copy[piece.piece.copy].append(piece)
    rollouts = sorted({piece.piece.rollout for piece in pieces})
    assert len(rollouts) == ROLLOUTS
    for copy, env in enumerate(envs):
        assert isinstance(env, UnevenEnv)
        ordered = by_copy[copy]
        for rollout in rollouts:
            assert sum(p.length for p in ordered if p.piece.rollout == rollout) == STEPS
        # One after the other they make whole episodes, each step once.
        lengths: list[int] = []
        for piece in ordered:
            where = piece.piece
            if where.start == 0:
                lengths.append(0)
            assert where.start == lengths[-1]
            assert_array_equal(piece.states[:, 0], where.start + np.arange(piece.length + 1))
            lengths[-1] += piece.length
            assert where.goes_on == (lengths[-1] < env.lengths[len(lengths) - 1])
        assert lengths[:-1] == env.lengths[: len(lengths) - 1]


def test_what_is_seen_behind_a_cut_is_what_the_next_piece_begins_with() -> None:
    run = make_piece_run(uneven(1), STEPS, ROLLOUTS)
    pieces = sorted(played_pieces(run), key=lambda piece: piece.number)
    cuts = 0
    for piece, following in pairwise(pieces):
        if piece.piece.goes_on:
            cuts += 1
            assert_array_equal(piece.observations[-1], following.observations[0])
            assert_array_equal(piece.alive[-1], following.alive[0])
            assert_array_equal(piece.alive[-2], following.columns[PRESENT.name][0])
            assert not piece.terminated
    assert cuts > 2


def test_results_are_of_whole_episodes() -> None:
    envs = uneven(1)
    run = make_piece_run(envs, STEPS, ROLLOUTS)
    pieces = sorted(played_pieces(run), key=lambda piece: piece.number)
    (env,) = envs
    assert isinstance(env, UnevenEnv)
    assert [result.length for result in run.results] == env.lengths[: len(run.results)]
    rewards = np.concatenate([piece.rewards.mean(1, dtype=np.float64) for piece in pieces])
    begin = 0
    for result in run.results:
        expected = rewards[begin : begin + result.length].sum()
        assert result.episode_return == pytest.approx(expected, abs=1e-6)
        begin += result.length


def test_a_new_policy_is_taken_up_between_rollouts_and_nowhere_else() -> None:
    run = make_piece_run(uneven(), STEPS, ROLLOUTS)
    version = 1
    while run.is_playing:
        if not run.world.may_tick:
            run.world.learner.progress(updates_owed=0.0, episodes_taken=len(run.records))
        run.tick()
        version += 1  # one comes with every step
        run.parameters.apply(dense(run.parameters.flat, version))
    pieces = joined(run)
    by_rollout: dict[int, set[int]] = defaultdict(set)
    for piece in pieces:
        lived_N = piece.alive.any(axis=0)
        by_rollout[piece.piece.rollout] |= set(piece.first_versions[lived_N].tolist())
        by_rollout[piece.piece.rollout] |= set(piece.last_versions[lived_N].tolist())
    found = [versions for _, versions in sorted(by_rollout.items())]
    assert found == [{1 + STEPS * rollout} for rollout in range(ROLLOUTS)]
