"""Copies: automatic reset, seeds, and one opponent for all."""

import numpy as np
import pytest

from configs.arrays import FloatArray, IntArray
from envs.base import EnvSpec, Snapshot, Transition
from envs.battle.battle import NUM_ACTIONS, Battle
from envs.battle.map import deploy
from envs.battle.opponents import RandomOpponent, ScriptedOpponent
from envs.copies import Copies, CopyStep
from envs.opponent import Opponent, UniformArray
from envs.relay import Relay
from envs.spaces import Discrete


class Countdown:
    """Ends after a given number of steps; its state is the seed it was given."""

    def __init__(self, length: int, terminates: bool = False) -> None:
        self._length = length
        self._terminates = terminates
        self._left = 0
        self._seed = 0
        self.closed = False

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            name="countdown",
            num_agents=1,
            observation_shape=(1,),
            actions=Discrete(2),
            state_dim=2,
            episode_limit=10,
            noop_action=0,
        )

    def reset(self, seed: int) -> Snapshot:
        self._seed, self._left = seed, self._length
        return self._snapshot()

    def step(self, actions_N: IntArray) -> Transition:
        self._left -= 1
        over = self._left == 0
        return Transition(
            after=self._snapshot(),
            rewards_N=actions_N.astype(np.float32),
            terminated=over and self._terminates,
            truncated=over and not self._terminates,
            won=False,
        )

    def close(self) -> None:
        self.closed = True

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            observations_ND=np.full((1, 1), self._left, dtype=np.float16),
            # Split in two: a float32 does not hold a seed of 32 bits.
            state_S=np.array(divmod(self._seed, 1 << 16), dtype=np.float32),
            alive_N=np.ones(1, dtype=np.bool_),
        )


def seed_in(snapshot: Snapshot) -> int:
    high, low = snapshot.state_S.tolist()
    return int(high) * (1 << 16) + int(low)


def seeds_of(copies: Copies, num_steps: int) -> list[list[int]]:
    """[copies][episodes] every seed handed out, in order."""
    seeds = [[seed_in(now)] for now in copies.reset()]
    num_agents = copies.spec.num_agents
    for _ in range(num_steps):
        for copy, step in enumerate(copies.step(np.zeros((len(seeds), num_agents), np.int64))):
            if step.transition.terminated or step.transition.truncated:
                seeds[copy].append(seed_in(step.now))
    return seeds


@pytest.mark.parametrize("terminates", [False, True])
def test_an_ended_copy_goes_on_with_the_next_episode(terminates: bool) -> None:
    copies = Copies([Countdown(2, terminates), Countdown(3)], seed=0)
    first, _ = copies.reset()
    actions = np.array([[1], [0]])
    a, b = copies.step(actions)
    assert a.now is a.transition.after
    assert b.now is b.transition.after
    a, b = copies.step(actions)
    assert a.transition.terminated == terminates
    assert a.transition.truncated != terminates
    assert a.transition.after.observations_ND[0, 0] == 0
    assert a.now.observations_ND[0, 0] == 2
    assert seed_in(a.transition.after) == seed_in(first)
    assert seed_in(a.now) != seed_in(first)
    assert b.now is b.transition.after
    assert a.transition.rewards_N.tolist() == [1.0]
    assert b.transition.rewards_N.tolist() == [0.0]


def test_every_episode_of_every_copy_has_a_seed_of_its_own() -> None:
    seeds: list[int] = []
    for root in (0, 1):
        for copy in seeds_of(Copies([Countdown(1) for _ in range(4)], seed=root), 9):
            seeds += copy
    assert len(seeds) == len(set(seeds)) == 2 * 4 * 10


def test_seeds_do_not_depend_on_how_the_other_copies_fare() -> None:
    alone = seeds_of(Copies([Countdown(2)], seed=5), 8)
    together = seeds_of(Copies([Countdown(2), Countdown(1), Countdown(3)], seed=5), 8)
    assert together[0] == alone[0]


def test_a_copy_that_rests_stays_as_it_is() -> None:
    copies = Copies([Countdown(2), Countdown(2)], seed=0)
    first, _ = copies.reset()
    actions = np.array([[1], [1]])
    for _ in range(3):
        resting, playing = copies.step(actions, rests_E=np.array([True, False]))
        assert resting.now is resting.transition.after is first
        assert resting.transition.rewards_N.tolist() == [0.0]
        assert not resting.transition.terminated
        assert not resting.transition.truncated
        assert playing.transition.rewards_N.tolist() == [1.0]
    resting, _ = copies.step(actions)
    assert resting.now.observations_ND[0, 0] == 1, "it goes on where it stood"


def test_a_resumed_run_continues_where_the_count_stopped() -> None:
    whole = seeds_of(Copies([Countdown(1), Countdown(1)], seed=0), 6)
    resumed = seeds_of(Copies([Countdown(1), Countdown(1)], seed=0, first_episode=4), 2)
    assert resumed == [seeds[4:] for seeds in whole]


def play_battle(num_copies: int, opponent: Opponent, num_steps: int = 70) -> list[CopyStep]:
    """Steps of copy 0, whose reds play the same random actions whatever its company."""
    copies = Copies([Battle(deploy(20), 40) for _ in range(num_copies)], 3, [opponent])
    copies.reset()
    rng = np.random.default_rng(0)
    steps: list[CopyStep] = []
    for _ in range(num_steps):
        actions_EN = np.full((num_copies, 20), 4)
        actions_EN[0] = rng.integers(NUM_ACTIONS, size=20)
        steps.append(copies.step(actions_EN)[0])
    return steps


@pytest.mark.parametrize("opponent", [RandomOpponent(), ScriptedOpponent()])
def test_a_copy_plays_alone_as_it_plays_in_company(opponent: Opponent) -> None:
    alone, together = play_battle(1, opponent), play_battle(3, opponent)
    assert any(step.transition.truncated or step.transition.terminated for step in alone)
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a.now.observations_ND, b.now.observations_ND)
        np.testing.assert_array_equal(a.now.state_S, b.now.state_S)
        np.testing.assert_array_equal(a.transition.rewards_N, b.transition.rewards_N)


def test_copies_of_a_battle_differ() -> None:
    copies = Copies([Battle(deploy(20)) for _ in range(2)], 0, [RandomOpponent()])
    copies.reset()
    a, b = copies.step(np.full((2, 20), 6))
    for _ in range(4):
        a, b = copies.step(np.full((2, 20), 6))
    assert not np.array_equal(a.now.state_S, b.now.state_S)


class Recorder:
    """Walks left and remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[FloatArray] = []

    def act(self, observations_BD: FloatArray, uniforms_B: UniformArray) -> IntArray:
        self.asked.append(observations_BD)
        return np.full(len(observations_BD), 5)


def test_the_opponent_is_asked_once_for_all_copies() -> None:
    opponent = Recorder()
    battles = [Battle(deploy(4)), Battle(deploy(4)), Battle(deploy(4))]
    copies = Copies(battles, 0, [opponent])
    copies.reset()
    for _ in range(3):
        copies.step(np.full((3, 4), 6))
    steps = copies.step(np.full((3, 4), 6))
    assert [rows.shape for rows in opponent.asked] == [(12, copies.spec.observation_dim)] * 4
    for step in steps:
        # Four steps from x = 15 lead to 11, the third column of squares; blue begins in the fourth.
        assert step.now.state_S.reshape(7, 14)[:, 7 + 2].sum() == pytest.approx(1.0)


def test_the_opponent_draws_anew_at_every_step_and_after_a_resume() -> None:
    def actions_of_blue(first_episode: int) -> list[list[int]]:
        drawn: list[list[int]] = []

        class Spy(RandomOpponent):
            def act(self, observations_BD: FloatArray, uniforms_B: UniformArray) -> IntArray:
                actions_B = super().act(observations_BD, uniforms_B)
                drawn.append(actions_B.tolist())
                return actions_B

        copies = Copies([Battle(deploy(4), 2)], 0, [Spy()], first_episode)
        copies.reset()
        for _ in range(5):
            copies.step(np.full((1, 4), 6))
        return drawn

    drawn = actions_of_blue(0) + actions_of_blue(7)
    assert len({tuple(actions) for actions in drawn}) == 10
    assert actions_of_blue(0) == drawn[:5]


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Copies([], seed=0)
    with pytest.raises(ValueError, match="alike"):
        Copies([Relay(2), Relay(3)], seed=0)
    with pytest.raises(ValueError, match="relay has no second team"):
        Copies([Relay(2)], 0, [RandomOpponent()])
    copies = Copies([Relay(2), Relay(2)], seed=0)
    copies.reset()
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        copies.step(np.zeros((1, 2), dtype=np.int64))


def test_closing_closes_every_copy() -> None:
    envs = [Countdown(1), Countdown(1)]
    Copies(envs, seed=0).close()
    assert all(env.closed for env in envs)
