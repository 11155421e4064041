"""CoordSum against traces of the released code, and by hand where that differs from the paper."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from envs.coord_sum import STEPS, CoordSum, CoordSumOptions

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "coordsum.npz"
TASKS = ("3x10-30", "8x15-100", "3x30-50")


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def played(env: CoordSum, targets: NDArray[Any], actions: NDArray[Any]) -> NDArray[np.float32]:
    """[T, N] rewards."""
    padded = np.resize(targets, STEPS + 1)
    env.begin(padded)
    return np.array([env.step(actions_N).rewards_N for actions_N in actions])


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_of_the_released_code_earns_the_same_step_by_step(
    task: str, golden: dict[str, NDArray[Any]]
) -> None:
    agents, actions, targets = golden[f"{task}/N_A_maxval"].tolist()
    env = CoordSum(CoordSumOptions(actions=actions, targets=targets, record="released"), agents)
    rewards = played(env, golden[f"{task}/target"], golden[f"{task}/actions"])
    assert_array_equal(rewards, golden[f"{task}/reward"])
    env = CoordSum(CoordSumOptions(actions=actions, targets=targets), agents)
    rewards = played(env, golden[f"{task}/target"], golden[f"{task}/actions"])
    assert_array_equal(rewards[:, 0], golden[f"{task}/reward_if_record_per_target"])


def test_targets_beyond_the_actions_share_a_row_only_as_released(
    golden: dict[str, NDArray[Any]],
) -> None:
    targets, actions = golden["oob/target"], golden["oob/actions"]
    released = CoordSum(CoordSumOptions(actions=4, targets=7, record="released"), 2)
    assert_array_equal(played(released, targets, actions)[:, 0], golden["oob/reward"])
    # Target 5 comes twice: 2 + 3, then 3 + 2. The opponent remembers the 2 and guesses it.
    assert played(CoordSum(CoordSumOptions(actions=4, targets=7), 2), targets, actions)[
        :, 0
    ].tolist() == ([2.0] * 6)


def test_the_guess_is_the_most_frequent_answer_and_the_smallest_of_several() -> None:
    env = CoordSum(CoordSumOptions(actions=5, targets=8), 2)
    env.begin(np.full(STEPS + 1, 4))
    # Nothing known: 0. Then 1; then 1 and 3 once each: 1; then 3.
    firsts, guessed = [1, 3, 3, 3, 0], [False, False, False, True, False]
    for first, is_guessed in zip(firsts, guessed, strict=True):
        reward = env.step(np.array([first, 4 - first])).rewards_N
        assert reward.tolist() == [1.0 if is_guessed else 2.0] * 2
    assert env.step(np.array([3, 0])).rewards_N.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("sees", "told"),
    [
        ("one-hot", [[0, 0, 1, 0, 0], [0, 0, 0, 0, 1]]),
        ("scaled", [[0.5], [1.0]]),
        ("number", [[2], [4]]),
    ],
)
def test_agents_see_who_they_are_and_the_target(sees: Any, told: list[list[float]]) -> None:
    env = CoordSum(CoordSumOptions(actions=3, targets=5, sees=sees), 2)
    first = env.begin(np.resize([2, 4], STEPS + 1))
    second = env.step(np.array([1, 1])).after
    for snapshot, expected in zip((first, second), told, strict=True):
        assert snapshot.observations_ND.tolist() == [[1, 0, *expected], [0, 1, *expected]]
        assert snapshot.state_S.tolist() == expected
    assert env.spec.observation_dim == 2 + len(told[0])


def test_an_episode_ends_after_a_hundred_steps_with_its_figures() -> None:
    env = CoordSum(CoordSumOptions(), 3)
    env.begin(np.zeros(STEPS + 1, dtype=np.int64))
    steps = [env.step(np.zeros(3, dtype=np.int64)) for _ in range(50)]
    steps += [env.step(np.array([1, 0, 0])) for _ in range(50)]
    assert [step.terminated for step in steps] == [False] * 99 + [True]
    assert not any(step.metrics for step in steps[:-1])
    assert steps[-1].metrics == {"sums": 0.5, "guessed": 0.5}
    with pytest.raises(AssertionError, match="reset"):
        env.step(np.zeros(3, dtype=np.int64))


def test_targets_follow_from_the_seed_and_fill_their_range() -> None:
    env, other = (
        CoordSum(CoordSumOptions(sees="number"), 1),
        CoordSum(CoordSumOptions(sees="number"), 1),
    )
    found: list[list[float]] = []
    for one, seed in ((env, 3), (other, 3), (env, 4)):
        first = one.reset(seed)
        steps = [one.step(np.array([0])) for _ in range(STEPS)]
        found.append([first.state_S[0], *(step.after.state_S[0] for step in steps)])
    assert found[0] == found[1] != found[2]
    assert (min(found[0]), max(found[0])) == (0, 29)


def test_what_cannot_be_played_is_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and 4096 agents, got 0"):
        CoordSum(CoordSumOptions(), 0)
    with pytest.raises(ValueError, match="actions"):
        CoordSumOptions(actions=1)
    env = CoordSum(CoordSumOptions(), 3)
    env.reset(0)
    with pytest.raises(ValueError, match=r"3 actions to play, got shape \(2,\)"):
        env.step(np.zeros(2, dtype=np.int64))
