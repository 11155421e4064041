"""Episodes on disk: what was written comes back, and what was half written does not."""

import dataclasses
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from learner.experience.episode import Episode, EpisodeJoiner, parts_of
from learner.experience.journal import Journal, newest_number
from tests.learner_helpers import DIMENSIONS, WITH_Q, make_episode, make_packets


def assert_same(found: Episode, expected: Episode) -> None:
    for field in dataclasses.fields(Episode):
        left: Any = getattr(found, field.name)
        right: Any = getattr(expected, field.name)
        if field.name == "columns":
            assert list(left) == list(right)
            for name, array in right.items():
                assert_array_equal(left[name], array, strict=True)
            continue
        if field.name == "dimensions":
            assert left == right
            continue
        assert_array_equal(left, right)
        assert getattr(left, "dtype", None) == getattr(right, "dtype", None), field.name


def numbers(journal: Journal) -> list[tuple[int, int]]:
    return [(ordinal, episode.number) for ordinal, episode in journal.load(DIMENSIONS)]


def fill(folder: Path, count: int, *, capacity: int = 100) -> Journal:
    journal = Journal(folder, capacity)
    for number in range(count):
        journal.append(number + 1, make_episode(number))
    return journal


@given(
    st.lists(st.integers(0, 6), min_size=6, max_size=6), st.booleans(), st.booleans()
)  # fmt: skip
def test_an_episode_is_made_of_its_parts_again(
    lifetimes: list[int], terminated: bool, with_q: bool
) -> None:
    trajectories, record = make_packets(
        7, lifetimes=lifetimes, terminated=terminated, with_q=with_q
    )
    known = WITH_Q if with_q else DIMENSIONS
    joiner, again = EpisodeJoiner(known), EpisodeJoiner(known)
    for part in trajectories:
        assert joiner.add(part) is None
    episode = joiner.add(record)
    assert episode is not None
    *first, last = parts_of(episode)
    for part in first:
        assert again.add(part) is None
    found = again.add(last)
    assert found is not None
    assert_same(found, episode)


def test_what_was_appended_is_loaded_by_another_process_in_order(tmp_path: Path) -> None:
    episodes = [make_episode(number, length=3 + number) for number in (4, 2, 9)]
    journal = Journal(tmp_path / "journal", 100)
    for ordinal, episode in enumerate(episodes):
        journal.append(10 * ordinal, episode)
    loaded = list(Journal(tmp_path / "journal", 100).load(DIMENSIONS))
    assert [ordinal for ordinal, _ in loaded] == [0, 10, 20]
    for (_, found), expected in zip(loaded, episodes, strict=True):
        assert_same(found, expected)


def test_the_oldest_leave_first(tmp_path: Path) -> None:
    journal = fill(tmp_path, 10, capacity=3)
    assert len(journal) == 3
    assert len(list(tmp_path.iterdir())) == 3
    assert numbers(Journal(tmp_path, 3)) == [(8, 7), (9, 8), (10, 9)]
    assert numbers(Journal(tmp_path, 2)) == [(9, 8), (10, 9)], "a smaller bound holds at once"


def test_every_torn_tail_is_found_and_removed(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    torn = sorted(tmp_path.iterdir())[-1]
    content = torn.read_bytes()
    lengths = [0, 1, 23, 24, 28, len(content) // 2, len(content) - 1]
    for length in lengths:
        torn.write_bytes(content[:length])
        assert numbers(Journal(tmp_path, 100)) == [(1, 0), (2, 1)], f"cut to {length} bytes"
        assert not torn.exists()
    torn.write_bytes(content)
    assert numbers(Journal(tmp_path, 100)) == [(1, 0), (2, 1), (3, 2)]


def test_a_damaged_byte_costs_its_episode_and_no_other(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    path = sorted(tmp_path.iterdir())[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert numbers(Journal(tmp_path, 100)) == [(1, 0), (3, 2)]


def test_files_dropped_for_one_reason_make_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, 4)
    old = sorted(tmp_path.iterdir())[:3]
    for path in old:
        path.write_bytes(b"another file altogether, of some length")
    assert numbers(Journal(tmp_path, 100)) == [(4, 3)]
    assert caplog.messages == [
        f"journal: {old[0].name} and 2 more are dropped: not a file of a journal"
    ]


@pytest.mark.parametrize("num_packets", [0, 1, 6, 8, 2**32 - 1])
def test_a_wrong_number_of_packets_is_damage(tmp_path: Path, num_packets: int) -> None:
    """The checksum is of the packets, and not of their number."""
    fill(tmp_path, 2)
    path = sorted(tmp_path.iterdir())[0]
    content = bytearray(path.read_bytes())
    content[12:16] = num_packets.to_bytes(4, "little")
    path.write_bytes(content)
    assert numbers(Journal(tmp_path, 100)) == [(2, 1)]


def test_what_is_not_a_journals_own_is_left_alone(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    strays = ["notes.episode", "1.episode", "-.episode", "a-b.episode", "README"]
    for name in strays:
        (tmp_path / name).write_text("not ours")
    (tmp_path / "0000000009-0000000099.episode").mkdir()
    journal = Journal(tmp_path, 1)
    assert (numbers(journal), newest_number(tmp_path)) == ([(2, 1)], 1)
    journal.clear()
    assert len(list(tmp_path.iterdir())) == len(strays) + 1


def test_episodes_of_another_task_are_not_learnt_from(tmp_path: Path) -> None:
    journal = fill(tmp_path, 2)
    assert list(journal.load(replace(DIMENSIONS, observation_dim=7))) == []
    assert len(journal) == 0


def test_an_append_that_fails_leaves_nothing_of_itself_and_everything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = fill(tmp_path, 2)
    # Root may write where it likes: a name that is too long fails for everybody.
    monkeypatch.setattr("learner.experience.journal._SUFFIX", ".episode" + "x" * 300)
    with pytest.raises(OSError, match="name too long"):
        journal.append(3, make_episode(2))
    assert len(journal) == 2
    monkeypatch.undo()
    assert numbers(Journal(tmp_path, 100)) == [(1, 0), (2, 1)]


def test_a_journal_without_room_keeps_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "journal", 3)
    assert numbers(Journal(tmp_path / "journal", 0)) == []
    assert os.listdir(tmp_path / "journal") == []


def test_a_journal_can_be_cleared(tmp_path: Path) -> None:
    fill(tmp_path, 3).clear()
    assert list(tmp_path.iterdir()) == []


def test_names_tell_the_newest_number(tmp_path: Path) -> None:
    assert newest_number(tmp_path / "journal") == -1
    journal = Journal(tmp_path / "journal", 10)
    for ordinal, number in enumerate((40, 123, 77)):
        journal.append(ordinal, make_episode(number))
    assert newest_number(tmp_path / "journal") == 123


def test_the_launcher_may_ask_without_torch() -> None:
    code = "import sys, learner.experience.journal; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
