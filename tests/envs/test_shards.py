"""Copies in processes of their own: the same episodes, and nothing left when one of them fails."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from configs.arrays import IntArray
from configs.schema import EnvConfig, EnvName
from envs.base import Snapshot, Transition
from envs.copies import Copies, CopyStep, EnvCopies
from envs.registry import make_copies, spec_of
from envs.shards import ShardError, Shards, num_shards, share_out
from envs.spaces import Box
from tests.process.runs import wait_for
from tests.rich_env import RichEnv
from tests.world_helpers import ScriptedEnv

COPIES, AGENTS = 7, 8
ACTIONS = np.zeros((5, 6), dtype=np.int64)
"""[E, N] of five scripted copies."""
BATTLE = EnvConfig(
    name="battle",
    copies=COPIES,
    opponent="random+scripted",
    max_cycles=15,
    shards=1,
    options="neighbours=true",
)


def battles(num_shards: int) -> EnvCopies:
    """Seven battles with two opponents, played in so many shards; 0: here."""

    def make(share: range | None = None) -> Copies:
        return make_copies(BATTLE, AGENTS, seed=5, first_episode=3, share=share)

    if num_shards == 0:
        return make()
    return Shards(make, spec_of(BATTLE, AGENTS), share_out(COPIES, num_shards), 30.0)


def scripted(share: range) -> Copies:
    return Copies([ScriptedEnv(2) for _ in share], seed=0, first_copy=share.start)


@pytest.fixture
def open_shards() -> Iterator[Callable[..., Shards]]:
    opened: list[Shards] = []

    def open_them(make: Callable[[range], Copies] = scripted, *, timeout_s: float = 30.0) -> Shards:
        opened.append(Shards(make, ScriptedEnv().spec, share_out(5, 2), timeout_s))
        return opened[-1]

    yield open_them
    for each in opened:
        each.close()
        assert not any(is_there(pid) for pid in each.pids)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def assert_same_snapshot(found: Snapshot, wanted: Snapshot) -> None:
    for a, b in zip(found, wanted, strict=True):
        if a is None or b is None:
            assert a is b
            continue
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def assert_same_step(found: CopyStep, wanted: CopyStep) -> None:
    assert_same_snapshot(found.now, wanted.now)
    assert_same_snapshot(found.transition.after, wanted.transition.after)
    np.testing.assert_array_equal(found.transition.rewards_N, wanted.transition.rewards_N)
    assert found.transition[2:] == wanted.transition[2:]


@pytest.mark.parametrize(("copies", "shards"), [(1, 1), (5, 2), (7, 3), (64, 64)])
def test_every_copy_has_one_shard_and_shares_are_even(copies: int, shards: int) -> None:
    shares = share_out(copies, shards)
    assert [copy for share in shares for copy in share] == list(range(copies))
    sizes = [len(share) for share in shares]
    assert len(shares) == shards
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("name", "wanted", "cores", "expected"),
    [
        ("battle", 0, 2, 1),
        ("battle", 0, 4, 1),
        ("battle", 0, 16, 4),
        ("battle", 0, 64, 6),  # no more than copies
        ("relay", 0, 16, 1),
        ("relay", 3, 2, 3),
        ("battle", 9, 2, 6),
    ],
)
def test_shards_follow_cores_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, name: EnvName, wanted: int, cores: int, expected: int
) -> None:
    def affinity(_: int) -> set[int]:
        return set(range(cores))

    monkeypatch.setattr(os, "sched_getaffinity", affinity)
    assert num_shards(EnvConfig(name=name, copies=6, shards=wanted)) == expected


@pytest.mark.process
@pytest.mark.parametrize("num_shards", [1, 2, 3])
def test_the_same_episodes_are_played_in_any_number_of_shards(num_shards: int) -> None:
    here, there = battles(0), battles(num_shards)
    rng = np.random.default_rng(1)
    opponents_E = np.arange(COPIES) % 2
    rests_E = np.zeros(COPIES, dtype=np.bool_)
    ends = 0
    try:
        for found, wanted in zip(there.reset(), here.reset(), strict=True):
            assert_same_snapshot(found, wanted)
        for step in range(40):
            if step % 10 == 0:
                opponents_E = 1 - opponents_E
                rests_E = rng.random(COPIES) < step / 100
            actions_EN = rng.integers(21, size=(COPIES, AGENTS))
            wanted_steps = here.step(actions_EN, opponents_E, rests_E)
            found_steps = there.step(actions_EN, opponents_E, rests_E)
            for found, wanted in zip(found_steps, wanted_steps, strict=True):
                assert_same_step(found, wanted)
                ends += wanted.transition.truncated
        assert ends >= 2 * COPIES, "episodes must have ended for this to prove anything"
        there.reset()
        here.reset()
        for found, wanted in zip(there.reset(), here.reset(), strict=True):
            assert_same_snapshot(found, wanted)
    finally:
        here.close()
        there.close()


@pytest.mark.process
def test_what_was_seen_stays_as_it_was(open_shards: Callable[..., Shards]) -> None:
    copies = open_shards()
    first = copies.reset()
    before = [snapshot.observations_ND.copy() for snapshot in first]
    last = copies.step(ACTIONS + 1)[0]
    rewards = last.transition.rewards_N.copy()
    copies.step(ACTIONS + 2)
    for snapshot, observations in zip(first, before, strict=True):
        np.testing.assert_array_equal(snapshot.observations_ND, observations)
    np.testing.assert_array_equal(last.transition.rewards_N, rewards)


@pytest.mark.process
def test_actions_of_another_shape_are_refused(open_shards: Callable[..., Shards]) -> None:
    copies = open_shards()
    copies.reset()
    with pytest.raises(ValueError, match=r"\(5, 6\), got shape \(4, 6\)"):
        copies.step(ACTIONS[:4])


class _Deadly(ScriptedEnv):
    def step(self, actions_N: IntArray) -> Transition:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().step(actions_N)


@pytest.mark.process
def test_a_shard_that_dies_between_steps_is_named(open_shards: Callable[..., Shards]) -> None:
    copies = open_shards()
    copies.reset()
    os.kill(copies.pids[1], signal.SIGKILL)
    wait_for("the shard to be gone", lambda: not is_there(copies.pids[1]))
    with pytest.raises(ShardError, match=r"^shard 1 died \(signal 9\)$"):
        copies.step(ACTIONS)


@pytest.mark.process
def test_a_shard_that_dies_within_a_step_is_named(open_shards: Callable[..., Shards]) -> None:
    def make(share: range) -> Copies:
        return Copies([_Deadly() if copy == 3 else ScriptedEnv() for copy in share], seed=0)

    copies = open_shards(make)
    copies.reset()
    with pytest.raises(ShardError, match=r"^shard 1 died \(signal 9\)$"):
        copies.step(ACTIONS)


@pytest.mark.process
def test_a_shard_that_hangs_is_named_and_can_be_ended(open_shards: Callable[..., Shards]) -> None:
    copies = open_shards(timeout_s=1.0)
    copies.reset()
    os.kill(copies.pids[0], signal.SIGSTOP)
    with pytest.raises(ShardError, match=r"^shard 0 has not answered for 1 s$"):
        copies.step(ACTIONS)


class _Breaking(ScriptedEnv):
    def step(self, actions_N: IntArray) -> Transition:
        raise RuntimeError("the dice have rolled off the table")


@pytest.mark.process
def test_what_goes_wrong_in_a_shard_is_told(open_shards: Callable[..., Shards]) -> None:
    def make(share: range) -> Copies:
        return Copies([_Breaking() if copy == 4 else ScriptedEnv() for copy in share], seed=0)

    copies = open_shards(make)
    copies.reset()
    with pytest.raises(ShardError, match=r"(?s)^shard 1 cannot go on:.*off the table"):
        copies.step(ACTIONS)


@pytest.mark.process
def test_environments_that_cannot_be_built_are_told_at_once() -> None:
    def make(share: range) -> Copies:
        raise ImportError("no engine here")

    with pytest.raises(ShardError, match=r"(?s)^shard [01] cannot go on:.*no engine here"):
        Shards(make, ScriptedEnv().spec, share_out(5, 2), 30.0)


@pytest.mark.process
def test_shards_die_with_their_world_even_stopped_ones() -> None:
    program = (
        "import time\n"
        "from tests.envs.test_shards import ScriptedEnv, Shards, scripted, share_out\n"
        "copies = Shards(scripted, ScriptedEnv().spec, share_out(5, 3), 30.0)\n"
        "print(*copies.pids, flush=True)\n"
        "time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as world:
        assert world.stdout is not None
        pids = [int(word) for word in world.stdout.readline().split()]
        assert len(pids) == 3
        os.kill(pids[1], signal.SIGSTOP)
        world.kill()
        wait_for("the shards to be gone", lambda: not any(is_there(pid) for pid in pids), 10.0)


def test_masks_types_and_real_numbers_pass_between_world_and_shards() -> None:
    def numbers(share: range) -> Copies:
        envs = [RichEnv(3, actions=Box((0.0,) * 2, (1.0,) * 2), dtype="uint8") for _ in share]
        return Copies(envs, seed=0, first_copy=share.start)

    def masked(share: range) -> Copies:
        return Copies([RichEnv(3, masks=True) for _ in share], 0, first_copy=share.start)

    for make in (numbers, masked):
        here = make(range(3))
        there = Shards(make, here.spec, share_out(3, 2), 30.0)
        try:
            assert_same_snapshots(there.reset(), here.reset())
            for _ in range(4):
                shape = (3, 6, 2) if here.spec.is_continuous else (3, 6)
                actions = np.ones(shape, np.float32 if here.spec.is_continuous else np.int64)
                for left, right in zip(there.step(actions), here.step(actions), strict=True):
                    assert_same_snapshots((left.now,), (right.now,))
                    after = (left.transition.after,), (right.transition.after,)
                    assert_same_snapshots(*after)
        finally:
            there.close()


def assert_same_snapshots(left: Sequence[Snapshot], right: Sequence[Snapshot]) -> None:
    for found, expected in zip(left, right, strict=True):
        assert found.observations_ND.dtype == expected.observations_ND.dtype
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
