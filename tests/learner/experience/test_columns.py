"""A column that nobody has heard of travels from the packets to a part of a batch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from configs.columns import ACTION_MASK, GATES, VALUE, Column, by_agents, by_world
from learner.algorithms.base import allowed_only
from learner.comm.unroll import UnrollOutput
from learner.experience.episode import Episode, EpisodeJoiner
from learner.experience.journal import Journal
from learner.experience.part import Part
from learner.experience.replay import Replay
from learner.forbidden import FORBIDDEN
from learner.ranks import shared_out
from tests.learner_helpers import DIMENSIONS, load_part, make_config, make_packets

MOOD = Column("mood", ("float32",), (2, "num_actions"))
WEATHER = Column("weather", ("uint16",), by="world", moments=True)
KNOWN = replace(DIMENSIONS, columns=(GATES, MOOD, WEATHER))
LIFETIMES = (6, 3, 0, 6, 5, 1)


def joined(number: int, *, length: int = 5) -> Episode:
    """An episode whose moods are [agent + 1] and whose weather counts the moments."""
    lifetimes = None if number % 2 else LIFETIMES
    trajectories, record = make_packets(number, length=length, lifetimes=lifetimes)
    joiner = EpisodeJoiner(KNOWN)
    for t in trajectories:
        mood = np.full((len(t.actions), 2, 4), t.agent + 1, dtype=np.float32)
        joiner.add(replace(t, columns={**t.columns, "mood": mood}))
    weather = np.repeat(np.arange(length + 1, dtype=np.uint16)[:, None], 6, axis=1)
    episode = joiner.add(replace(record, columns={"weather": weather, "unheard_of": weather}))
    assert episode is not None, joiner.dropped_packets
    return episode


def part_of(*episodes: Episode) -> Part:
    replay = Replay(10)
    for episode in episodes:
        replay.add(episode)
    batch = replay.oldest(10).gather()
    ((share,),) = shared_out(batch, 100, 1)
    return load_part(share, torch.Generator(), make_config())


def test_columns_of_agents_and_world_are_joined_by_name() -> None:
    episode = joined(2)
    assert list(episode.columns) == ["gates", "mood", "weather"]
    assert episode.columns["mood"].shape == (5, 6, 2, 4)
    assert (episode.columns["mood"][:3, 1] == 2.0).all()
    assert (episode.columns["mood"][3:, 1] == 0.0).all(), "nothing of the dead"
    assert_array_equal(episode.columns["weather"][:, 0], np.arange(6))


def test_they_come_back_from_the_journal(tmp_path: Path) -> None:
    episode = joined(2)
    Journal(tmp_path, 5).append(1, episode)
    ((_, again),) = Journal(tmp_path, 5).load(KNOWN)
    for name, array in episode.columns.items():
        assert_array_equal(again.columns[name], array, strict=True)


def test_an_episode_that_lacks_a_column_leaves_the_journal(tmp_path: Path) -> None:
    Journal(tmp_path, 5).append(1, joined(2))
    wanted = replace(DIMENSIONS, columns=(GATES, VALUE))
    assert list(Journal(tmp_path, 5).load(wanted)) == []
    assert list(tmp_path.iterdir()) == []


def test_they_are_sampled_with_the_windows_and_reach_the_loss() -> None:
    part = part_of(joined(2), joined(3, length=4))
    assert part.columns["mood"].shape == (5, 2, 6, 2, 4)
    assert part.columns["weather"].shape == (6, 2, 6)
    assert part.columns["weather"].dtype == part.columns["gates"].dtype == torch.int64
    weather = part.columns["weather"][:, :, 0].numpy()
    assert_array_equal(weather[:, 0], [0, 1, 2, 3, 4, 5])
    assert_array_equal(weather[:, 1], [0, 1, 2, 3, 4, 0])


def test_gates_that_were_open_reach_the_loss() -> None:
    episode = joined(2)
    gates = part_of(episode).columns["gates"][:, 0]
    assert_array_equal(gates.numpy(), episode.columns["gates"])
    assert gates.any()


@pytest.mark.parametrize(
    "mood",
    [np.zeros((5, 2, 3), np.float32), np.zeros((5, 2, 4), np.float16), np.full((5, 2, 4), 3e38)],
)
def test_a_column_that_does_not_fit_is_refused(mood: np.ndarray) -> None:
    joiner = EpisodeJoiner(KNOWN)
    trajectory = make_packets(1)[0][0]
    joiner.add(replace(trajectory, columns={**trajectory.columns, "mood": mood}))
    assert joiner.dropped_packets.total() == 1


def test_versions_of_each_agent_show_a_change_within_an_episode() -> None:
    trajectories, record = make_packets(1)
    for changes in (False, True):
        joiner = EpisodeJoiner(DIMENSIONS)
        for t in trajectories:
            last = 5 + 1 * (changes and t.agent == 3)
            joiner.add(replace(t, first_version=5, last_version=last))
        episode = joiner.add(record)
        assert episode is not None
        assert episode.changes_policy == changes
        assert episode.first_versions.tolist() == [5] * 6
        assert episode.last_versions.tolist() == [5, 5, 5, 5 + changes, 5, 5]
        assert (episode.first_version, episode.last_version) == (5, 5 + changes)


def test_who_records_which_column() -> None:
    columns = (MOOD, WEATHER, MOOD)
    assert by_agents(columns) == (GATES, MOOD)
    assert by_world(columns) == (WEATHER,)


def test_the_name_of_a_column_is_an_identifier() -> None:
    with pytest.raises(ValueError, match="identifier"):
        Column("log prob", ("float32",))


# --- masks in the loss ----------------------------------------------------------------------------


def test_a_forbidden_action_wins_no_maximum() -> None:
    q = torch.tensor([3.0, 9.0, 1.0, 2.0]).expand(6, 1, 6, 4)
    mask = torch.tensor([1, 0, 1, 1]).expand(6, 1, 6, 4).clone()
    mask[2] = 0  # behind the end of an episode, or of the dead
    part = part_of(joined(3))
    part = replace(part, columns={**part.columns, ACTION_MASK.name: mask})
    like = torch.zeros(1)
    output = UnrollOutput(q, *[like] * 5, carry=None)  # type: ignore[arg-type]  # not read
    masked = allowed_only(output, part).q_TBNA
    assert (masked.argmax(-1)[[0, 1, 3, 4, 5]] == 0).all()
    assert (masked[0, ..., 1] == FORBIDDEN).all()
    assert torch.equal(masked[2], q[2])
    assert torch.isfinite(masked.logsumexp(-1)).all()


def test_without_masks_values_are_left_alone() -> None:
    like = torch.zeros(1)
    output = UnrollOutput(like, *[like] * 5, carry=None)  # type: ignore[arg-type]  # not read
    assert allowed_only(output, part_of(joined(3))) is output
