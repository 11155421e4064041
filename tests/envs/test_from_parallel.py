"""A PettingZoo environment as one of ours: who is there, what is seen, what comes of actions."""

import numpy as np
import pytest
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal

from envs.from_parallel import FromParallel
from envs.spaces import Box, Discrete, MultiDiscrete
from tests.foreign_envs import Foreign

TWO = np.zeros(2, dtype=np.int64)


def taken(env: Foreign, limit: int = 50) -> FromParallel:
    taken = FromParallel(env, "foreign", limit)
    taken.reset(5)
    return taken


def test_the_spec_says_what_the_environment_is() -> None:
    spec = taken(Foreign()).spec
    assert (spec.name, spec.num_agents, spec.observation_shape) == ("foreign", 2, (2,))
    assert (spec.observation_dtype, spec.actions, spec.state_dim) == ("float32", Discrete(3), 4)
    assert not spec.has_action_masks
    assert spec.kinds_N == ()
    assert not spec.can_be_won


def test_an_agent_that_terminates_is_dead_and_the_others_go_on() -> None:
    env = taken(Foreign(terminated={2: ("agent_0",)}))
    assert env.step(TWO).after.alive_N.tolist() == [True, True]
    transition = env.step(TWO)
    assert transition.after.alive_N.tolist() == [False, True]
    assert transition.rewards_N.tolist() == [1.0, 2.0]  # its last reward is still its own
    assert_array_equal(transition.after.observations_ND[0], 0.0)
    assert (transition.terminated, transition.truncated) == (False, False)
    assert env.step(TWO).rewards_N.tolist() == [0.0, 1.0]


def test_an_agent_that_comes_back_has_its_old_number() -> None:
    env = taken(Foreign(terminated={1: ("agent_0",)}, returns={3: ("agent_0",)}))
    alive = [env.step(TWO).after.alive_N.tolist() for _ in range(4)]
    assert alive == [[False, True], [False, True], [True, True], [True, True]]
    assert env.spec.comes_back


@pytest.mark.parametrize(
    ("ends", "terminated", "truncated", "alive"),
    [
        ({"terminated": {1: ("agent_0", "agent_1")}}, True, False, [False, False]),
        ({"truncated": {1: ("agent_0", "agent_1")}}, False, True, [True, True]),
        (
            {"terminated": {1: ("agent_0",)}, "truncated": {1: ("agent_1",)}},
            *(False, True, [False, True]),
        ),
    ],
)
def test_an_episode_is_over_when_nobody_is_left(
    ends: dict[str, dict[int, tuple[str, ...]]],
    terminated: bool,
    truncated: bool,
    alive: list[bool],
) -> None:
    transition = taken(Foreign(**ends)).step(TWO)  # type: ignore[arg-type]  # as parametrised
    assert (transition.terminated, transition.truncated) == (terminated, truncated)
    # What comes next would still have counted for those who were only cut off.
    assert transition.after.alive_N.tolist() == alive
    for agent, is_there in enumerate(alive):
        assert transition.after.observations_ND[agent].any() == is_there


def test_an_environment_without_end_is_truncated_by_us() -> None:
    env = taken(Foreign(), limit=3)
    steps = [env.step(TWO) for _ in range(3)]
    assert [step.truncated for step in steps] == [False, False, True]
    assert not any(step.terminated for step in steps)


def test_agents_of_several_kinds_are_filled_up_and_say_which_they_are() -> None:
    names = ("wolf_0", "wolf_1", "sheep_0")
    seen = {n: spaces.Box(0, 1, (3 if n[0] == "w" else 1,), np.float32) for n in names}
    acts = {n: spaces.Discrete(2 if n[0] == "w" else 4) for n in names}
    foreign = Foreign(
        names, seen=seen, acts=acts, look=lambda n, _: np.ones(3 if n[0] == "w" else 1, np.float32)
    )
    env = taken(foreign)
    snapshot = env.reset(1)
    assert env.spec.kinds_N == (0, 0, 1)
    assert_array_equal(
        snapshot.observations_ND, [[1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 0, 0, 0, 1]]
    )
    assert env.spec.actions == Discrete(4)
    assert snapshot.action_masks_NA is not None
    assert snapshot.action_masks_NA.sum(axis=1).tolist() == [2, 2, 4]
    env.step(np.array([1, 3, 3]))
    # An action that an agent has not, as of one whose process is gone, is played as one it has.
    assert foreign.played[-1] == {"wolf_0": 1, "wolf_1": 0, "sheep_0": 3}


def test_masks_come_with_what_is_seen_or_beside_it() -> None:
    inner = spaces.Box(0, 1, (2,), np.float32)
    masked = spaces.Dict({"observation": inner, "action_mask": spaces.MultiBinary(3)})
    mask = np.array([0, 1, 1], np.int8)

    def look(_: str, step: int) -> dict[str, object]:
        return {"observation": np.full(2, step, np.float32), "action_mask": mask}

    with_it = Foreign(seen=dict.fromkeys(("agent_0", "agent_1"), masked), look=look)
    beside_it = Foreign(infos=lambda _: {"action_mask": mask})
    for foreign in (with_it, beside_it):
        env = taken(foreign)
        assert env.spec.has_action_masks
        assert env.spec.observation_shape == (2,)
        after = env.step(np.array([1, 0])).after
        assert after.action_masks_NA is not None
        assert after.action_masks_NA.tolist() == [[False, True, True]] * 2
        assert foreign.played[-1] == {"agent_0": 1, "agent_1": 1}


def test_a_mask_that_allows_nothing_is_of_an_agent_whose_turn_it_is_not() -> None:
    env = taken(Foreign(infos=lambda _: {"action_mask": np.zeros(3, np.int8)}))
    after = env.step(TWO).after
    assert after.action_masks_NA is not None
    assert after.action_masks_NA.all()


def test_joint_choices_travel_as_one_number() -> None:
    names = ("agent_0", "agent_1")
    foreign = Foreign(acts=dict.fromkeys(names, spaces.MultiDiscrete([3, 2], start=[1, 0])))
    env = taken(foreign)
    assert env.spec.actions == MultiDiscrete((3, 2))
    env.step(np.array([0, 5]))
    assert [foreign.played[-1][name].tolist() for name in names] == [[1, 0], [3, 1]]


def test_numbers_of_a_discrete_space_begin_where_it_says() -> None:
    foreign = Foreign(acts=dict.fromkeys(("agent_0", "agent_1"), spaces.Discrete(3, start=5)))
    taken(foreign).step(np.array([0, 2]))
    assert foreign.played[-1] == {"agent_0": 5, "agent_1": 7}


def test_real_actions_arrive_within_their_bounds() -> None:
    box = spaces.Box(np.array([0.0, -1.0], np.float32), np.array([1.0, 1.0], np.float32))
    foreign = Foreign(acts=dict.fromkeys(("agent_0", "agent_1"), box))
    env = taken(foreign)
    assert env.spec.actions == Box((0.0, -1.0), (1.0, 1.0))
    env.step(np.array([[0.5, 0.25], [9.0, -9.0]], dtype=np.float32))
    assert_allclose(foreign.played[-1]["agent_0"], [0.5, 0.25])
    assert_allclose(foreign.played[-1]["agent_1"], [1.0, -1.0])
    assert foreign.played[-1]["agent_0"].dtype == np.float32


def test_boxes_that_differ_become_one_of_the_unit_size() -> None:
    acts = {
        "agent_0": spaces.Box(0.0, 4.0, (2,), np.float32),
        "agent_1": spaces.Box(-1.0, 1.0, (1,), np.float32),
    }
    foreign = Foreign(acts=acts)
    env = taken(foreign)
    assert env.spec.actions == Box((-1.0, -1.0), (1.0, 1.0))
    env.step(np.array([[0.0, 1.0], [0.5, 7.0]], dtype=np.float32))
    assert_allclose(foreign.played[-1]["agent_0"], [2.0, 4.0])
    assert_allclose(foreign.played[-1]["agent_1"], [0.5])


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
def test_images_keep_their_shape_and_dtype(dtype: type[np.generic]) -> None:
    image = spaces.Box(0, 255, (4, 5, 3), dtype)  # type: ignore[arg-type]  # one of those above
    foreign = Foreign(
        seen=dict.fromkeys(("agent_0", "agent_1"), image),
        look=lambda _, step: np.full((4, 5, 3), 200 + step, dtype),  # type: ignore[arg-type]
    )
    env = taken(foreign)
    assert (env.spec.observation_shape, env.spec.observation_dim) == ((4, 5, 3), 60)
    after = env.step(TWO).after
    assert after.observations_ND.dtype == dtype
    assert_array_equal(after.observations_ND, 201)
    assert after.state_S.dtype == np.float32
    if dtype is np.uint8:
        assert_allclose(after.state_S, 201 / 255)


def test_anything_that_gymnasium_flattens_can_be_seen() -> None:
    space = spaces.Dict(
        {"colour": spaces.Discrete(3), "speed": spaces.Box(-9, 9, (1,), np.float32)}
    )
    foreign = Foreign(
        seen=dict.fromkeys(("agent_0", "agent_1"), space),
        look=lambda _, step: {"colour": 2, "speed": np.array([step], np.float32)},
    )
    snapshot = taken(foreign).step(TWO).after
    assert_allclose(snapshot.observations_ND[0], [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("spaces_of", "says"),
    [
        ({"seen": spaces.Sequence(spaces.Discrete(2))}, "cannot be made a row of numbers"),
        ({"acts": spaces.Text(5)}, "is none that agents can act in"),
        ({"acts": spaces.Box(-np.inf, np.inf, (1,), np.float32)}, "has no bounds"),
    ],
)
def test_spaces_that_nobody_can_see_or_act_in_are_refused(
    spaces_of: dict[str, object], says: str
) -> None:
    of_each = {k: dict.fromkeys(("agent_0", "agent_1"), v) for k, v in spaces_of.items()}
    with pytest.raises(ValueError, match=says):
        taken(Foreign(**of_each))  # type: ignore[arg-type]  # as parametrised


def test_a_mixture_of_choices_and_real_numbers_is_refused() -> None:
    acts = {"agent_0": spaces.Discrete(2), "agent_1": spaces.Box(-1, 1, (1,), np.float32)}
    with pytest.raises(ValueError, match="some of its agents choose actions and others act by"):
        taken(Foreign(acts=acts))


def test_seeds_are_handed_on() -> None:
    foreign = Foreign()
    env = taken(foreign)
    env.reset(17)
    env.reset(17 + (1 << 31))  # older generators take no larger seed
    assert foreign.seeds[-2:] == [17, 17]
