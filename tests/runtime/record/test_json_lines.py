"""What a crash breaks at the end of a log is dropped; what is damaged elsewhere is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.load import ConfigError
from runtime.record.json_lines import current_lives, last_record, lives, mend, read_records
from runtime.record.run_log import RunLog

RECORDS: list[dict[str, Any]] = [{"episode": 1}, {"episode": 2, "name": "é"}, {"episode": 3}]
WHOLE = b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in RECORDS)
LAST = len(WHOLE) - len(b'{"episode": 3}\n')
"""Where the last line begins."""


def file_with(folder: Path, content: bytes) -> Path:
    path = folder / "log.jsonl"
    path.write_bytes(content)
    return path


BROKEN = {
    "cut": b'{"episode": 4, "na',
    "cut within a letter": '{"episode": 4, "name": "é'.encode()[:-1],
    "NULs": b"\0" * 5000,
    "half a line, then NULs": b'{"episode": 4,' + b"\0" * 700,
    "a hole, then the end of a line": b'{"epis' + b"\0" * 100 + b'4, "won": true}\n',
    "half a line that somebody has ended": b'{"episode": 4,\n',
    "no object": b"17\n",
    "longer than a block": b'{"name": "' + b"x" * 200_000,
}


@pytest.mark.parametrize("tail", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_tail_is_left_out_and_cut_off(tmp_path: Path, tail: bytes) -> None:
    path = file_with(tmp_path, WHOLE + tail)
    assert read_records(path) == RECORDS
    assert last_record(path) == RECORDS[-1]
    assert mend(path) == len(tail)
    assert path.read_bytes() == WHOLE
    assert mend(path) == 0


@given(st.integers(0, len(WHOLE)), st.integers(0, 3))
def test_wherever_a_file_is_cut_its_whole_lines_stay(
    tmp_path_factory: pytest.TempPathFactory, length: int, nuls: int
) -> None:
    path = file_with(tmp_path_factory.mktemp("cut"), WHOLE[:length] + b"\0" * nuls)
    kept = read_records(path)
    ends = [number for number in range(len(WHOLE)) if WHOLE[number : number + 1] == b"\n"]
    # A line that lacks nothing but its end is whole, unless NULs stand in its place.
    whole = sum(end + bool(nuls) <= length for end in ends)
    assert kept == RECORDS[:whole]
    mend(path)
    with path.open("ab") as file:
        file.write(b'{"episode": 9}\n')
    assert read_records(path) == [*kept, {"episode": 9}]


def test_a_line_that_lacks_only_its_end_is_kept_and_ended(tmp_path: Path) -> None:
    path = file_with(tmp_path, WHOLE[:-1])
    assert read_records(path) == RECORDS
    mend(path)
    assert path.read_bytes() == WHOLE


def test_a_long_record_is_found_from_the_end(tmp_path: Path) -> None:
    record = {"name": "x" * 300_000}
    path = file_with(tmp_path, WHOLE + json.dumps(record).encode() + b"\n{")
    assert last_record(path) == record
    assert mend(path) == 1


def test_without_a_file_there_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    assert (read_records(path), last_record(path), mend(path)) == ([], None, 0)
    assert not path.exists()


@pytest.mark.parametrize("line", [b'{"episode": 4,{"episode": 5}', b"garbage", b"[1]", b"\xff\xfe"])
def test_damage_before_the_last_line_is_refused_with_file_and_line(
    tmp_path: Path, line: bytes
) -> None:
    path = file_with(tmp_path, WHOLE[:LAST] + line + b"\n" + WHOLE[LAST:])
    with pytest.raises(ConfigError, match=r"log\.jsonl, line 3 is damaged: remove that line"):
        read_records(path)


def test_a_hole_that_a_power_cut_has_left_in_the_middle_is_no_obstacle(tmp_path: Path) -> None:
    hole = b'{"episode": 4, "wo' + b"\0" * 4096 + b"e}\n"
    path = file_with(tmp_path, WHOLE[:LAST] + hole + WHOLE[LAST:])
    assert read_records(path) == RECORDS
    assert mend(path) == 0


def test_a_log_goes_on_behind_its_last_whole_line(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for step in (1, 2):
        log.metrics(step, {"learner/loss": 0.5})
    log.close()
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-25])
    log = RunLog(tmp_path, life=1, resumed_at=1)
    log.metrics(3, {})
    log.close()
    assert [record["env_steps"] for record in read_records(path)] == [1, 3]


def test_records_of_steps_that_were_played_again_are_superseded() -> None:
    records = [
        {"env_steps": step, "t_s": t_s, "life": life, "resumed_at": at}
        for life, at, t_s, step in [
            (0, 0, 1.0, 100), (0, 0, 2.0, 200), (0, 0, 3.0, 300),
            (1, 150, 4.0, 260), (1, 150, 5.0, 350), (1, 150, 6.0, 450),
            (2, 400, 7.0, 420),
        ]
    ]  # fmt: skip
    assert [len(life) for life in lives(records)] == [3, 3, 1]
    steps = [[record["env_steps"] for record in life] for life in current_lives(records)]
    assert steps == [[100], [260, 350], [420]]


def test_a_life_that_goes_back_further_supersedes_all_later_steps() -> None:
    """Its predecessor never wrote a checkpoint: the run began anew from that of the first."""
    records = [
        {"env_steps": step, "t_s": 1.0, "life": life, "resumed_at": at}
        for life, at, step in [(0, 0, 100), (0, 0, 200), (1, 180, 190), (2, 90, 95)]
    ]
    assert [[r["env_steps"] for r in life] for life in current_lives(records)] == [[], [], [95]]


def test_lives_of_older_logs_are_told_by_their_seconds() -> None:
    records = [
        {"env_steps": step, "t_s": t_s} for t_s, step in [(1.0, 100), (9.0, 200), (0.5, 140)]
    ]
    assert [[r["env_steps"] for r in life] for life in current_lives(records)] == [[100], [140]]
