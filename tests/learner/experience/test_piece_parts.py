"""Parts of pieces: who has to tell something, what is lost, and the journal."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.columns import CARRY, GATES, PIECE, PIECES, PRESENT
from learner.experience.episode import (
    Dimensions,
    Episode,
    EpisodeJoiner,
    Part,
    Piece,
    parts_of,
    senders_of,
)
from learner.experience.journal import Journal
from runtime.net import wire
from tests.learner_helpers import DIMENSIONS, make_packets

CARRIED = 4
SIZES = replace(DIMENSIONS, carry_dim=CARRIED, columns=(GATES, *PIECES))


def parts_of_a_piece(
    *, start: int = 3, present: Sequence[int] = (1, 1, 1, 1, 1, 1), complete: bool = True
) -> tuple[list[wire.Trajectory], wire.EpisodeRecord]:
    """Five steps of six agents, of which the last two are dead from the first on."""
    trajectories, record = make_packets(8, lifetimes=(6, 6, 6, 3, 0, 0), complete=complete)
    trajectories = [
        replace(t, columns={"gates": t.columns["gates"], CARRY.name: carried(t.agent)})
        for t in trajectories
    ]
    piece = np.tile(np.array([7, 2, start, 1], dtype=np.uint32), (1, 6, 1))
    columns = {PIECE.name: piece, PRESENT.name: np.array([present], dtype=np.uint8)}
    return trajectories, replace(record, columns=columns)


def carried(agent: int) -> np.ndarray:
    return np.full((1, CARRIED), 10.0 + agent, dtype=np.float32)


def last_words(agent: int) -> wire.Trajectory:
    """Of an agent that lived in no step."""
    return wire.Trajectory(
        agent=agent,
        episode=8,
        first_version=1,
        last_version=1,
        observations=np.zeros((0, SIZES.observation_dim), np.float16),
        actions=np.zeros(0, np.uint8),
        columns={CARRY.name: carried(agent)},
    )


def joined(
    trajectories: list[wire.Trajectory], record: wire.EpisodeRecord, sizes: Dimensions = SIZES
) -> Episode | None:
    joiner = EpisodeJoiner(sizes)
    found = [joiner.add(packet) for packet in (record, *trajectories)]
    assert not joiner.dropped_packets
    return found[-1]


def test_an_agent_that_died_before_a_piece_is_waited_for_if_it_may_be_heard() -> None:
    trajectories, record = parts_of_a_piece(present=(1, 1, 1, 1, 1, 0))
    assert joined(trajectories, record) is None
    episode = joined([*trajectories, last_words(4)], record)
    assert episode is not None
    np.testing.assert_array_equal(episode.columns[CARRY.name][0, :5, 0], 10.0 + np.arange(5))
    assert not episode.columns[CARRY.name][0, 5].any()
    assert episode.piece == Piece(rollout=7, copy=2, start=3, goes_on=True)


def test_where_an_episode_begins_nobody_was_heard_before() -> None:
    assert joined(*parts_of_a_piece(start=0)) is not None


def test_where_agents_come_back_all_of_them_have_something_to_tell() -> None:
    trajectories, record = parts_of_a_piece(present=(1, 1, 1, 1, 0, 0))
    sizes = replace(SIZES, comes_back=True)
    assert joined(trajectories, record, sizes) is None
    assert joined([*trajectories, last_words(4), last_words(5)], record, sizes) is not None


def test_a_piece_comes_back_from_the_journal_as_it_was(tmp_path: Path) -> None:
    trajectories, record = parts_of_a_piece(present=(1, 1, 1, 1, 1, 0))
    episode = joined([*trajectories, last_words(4)], record)
    assert episode is not None
    assert {part.agent for part in senders_of(episode)} == {None, 0, 1, 2, 3, 4}
    assert len(parts_of(episode)) == 6
    Journal(tmp_path, 4).append(1, episode)
    ((_, again),) = Journal(tmp_path, 4).load(SIZES)
    assert again.piece == episode.piece
    for name, array in episode.columns.items():
        np.testing.assert_array_equal(again.columns[name], array)


def test_of_a_piece_that_is_lost_its_place_and_length_are_known() -> None:
    _, record = parts_of_a_piece(complete=False)
    joiner = EpisodeJoiner(SIZES)
    joiner.add(record)
    assert joiner.lost_pieces == [(Piece(7, 2, 3, True), 5)]
    assert joiner.take_released() == [Part(8, None)]


@pytest.mark.parametrize("fault", ["shape", "dtype"])
def test_what_an_agent_remembers_is_held_against_the_task(fault: str) -> None:
    (first, *_), _ = parts_of_a_piece()
    wrong = np.zeros((1, CARRIED + 1), np.float32)
    if fault == "dtype":
        wrong = np.zeros((1, CARRIED), np.float64)
    joiner = EpisodeJoiner(SIZES)
    joiner.add(replace(first, columns={**first.columns, CARRY.name: wrong}))
    joiner.add(replace(last_words(4), columns={CARRY.name: wrong}))
    assert joiner.dropped_packets == {fault: 2}
