"""Loops that play in turn: whose turn it is, and what their blocks say about each other."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.benchmarks.interleaved import Block, InterleavedCase, of_kind, ratios
from tests.benchmarks.process_cost import CpuTime, descendants
from tests.benchmarks.turns import LEAST_TICKS, Alone, Door, InTurn, Line, Played
from tests.process.runs import scratch_folder, wait_for


class Loop:
    """A loop that counts its ticks, and the referee's end of its line."""

    def __init__(self, folder: Path) -> None:
        self.ticks = 0
        door = Door(str(folder / "door"))
        self.thread = threading.Thread(target=self._play, args=(door.path,))
        self.thread.start()
        self.line: Line = wait_for("the loop", door.try_accept)
        door.close()

    def _play(self, path: str) -> None:
        turns = InTurn(path)
        while turns.may_tick():
            self.ticks += 1
        self.total = turns.total

    def play(self, seconds: float, least_ticks: int) -> Played:
        self.line.say({"play_s": seconds, "least_ticks": least_ticks})
        said = self.line.hear()
        assert said is not None
        return Played(**said)


def test_a_loop_plays_its_block_and_stands_still_until_the_next() -> None:
    loop = Loop(scratch_folder(test_a_loop_plays_its_block_and_stands_still_until_the_next))

    first = loop.play(0.0, 5)
    assert first.ticks == loop.ticks == 5
    second = loop.play(0.02, 1)
    assert second.wall_s >= 0.02
    assert loop.ticks == 5 + second.ticks

    loop.line.close()
    loop.thread.join(10.0)
    assert loop.ticks == 5 + second.ticks == loop.total.ticks
    assert loop.total.wall_s == pytest.approx(first.wall_s + second.wall_s)


def test_a_loop_without_a_referee_plays_its_time_and_a_few_ticks_at_least() -> None:
    turns, ticks = Alone(0.0), 0
    while turns.may_tick():
        ticks += 1

    assert turns.total.ticks == ticks == LEAST_TICKS


def block(ticks: int, wall_s: float, cpu_s: float) -> Block:
    return Block(Played(ticks, wall_s), {"agent": CpuTime(cpu_s, 0.0), "world": CpuTime()}, cpu_s)


def test_ratios_are_of_neighbours_whatever_the_machine_did_to_both() -> None:
    ours = [block(10, 1.0, 1.0), block(5, 1.0, 0.5), block(20, 1.0, 2.0)]
    loop = [block(20, 1.0, 0.5), block(10, 1.0, 0.25), block(20, 1.0, 0.5)]

    found = ratios(ours, loop, group=1)

    assert (found["ratio_low"], found["ratio"], found["ratio_high"]) == (0.5, 0.5, 0.75)
    assert found["cpu_ratio"] == pytest.approx(4.0)


def test_what_others_take_of_the_machine_is_what_we_have_not_had() -> None:
    busy = Block(Played(10, 2.0), {"agent": CpuTime(1.0, 0.5)}, 2.5)

    assert busy.others_share == pytest.approx(1.0 / (2.0 * (os.cpu_count() or 1)))
    assert block(10, 1.0, 1.0).others_share == 0.0


def test_a_group_of_rounds_is_one_ratio_and_a_rest_is_left_out() -> None:
    """What falls due in one of several rounds would be invisible in a median of rounds."""
    plain = [block(10, 1.0, 1.0)] * 5
    scraped = [block(10, 1.0, 1.0), block(8, 1.0, 1.0)] * 2 + [block(1, 1.0, 1.0)]

    found = ratios(plain, scraped, group=2)

    assert found["ratio_low"] == found["ratio"] == found["ratio_high"] == pytest.approx(20 / 18)


def test_figures_are_sorted_by_who_played() -> None:
    figures = {"bare loop: ratio": 0.5, "murmuration: ratio": None, "bare loop: ticks": 3.0}

    assert of_kind(figures, "bare loop") == {"ratio": 0.5, "ticks": 3.0}
    assert of_kind(figures, "murmuration") == {"ratio": None}


def test_the_reference_comes_first() -> None:
    beside = InterleavedCase(env="relay", agents=4, beside=("bare loop", "pipe star"))
    measured = InterleavedCase(env="relay", agents=4, beside=(), telemetry=("off", "on"))

    assert beside.kinds == ("murmuration", "bare loop", "pipe star")
    assert measured.kinds == ("off", "on")


@pytest.mark.process
def test_children_of_children_are_found() -> None:
    script = "import subprocess, sys; subprocess.run(['sleep', '60'])"
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        found = wait_for("the grandchild", lambda: descendants(parent.pid))
        (grandchild,) = found
        assert found[grandchild].startswith("sleep") or script in found[grandchild]
        parent.kill()
        subprocess.run(["kill", "-9", str(grandchild)], check=True)
