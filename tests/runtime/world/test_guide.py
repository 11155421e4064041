"""A guide plays its share of the exploring steps, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.arrays import FloatArray
from runtime.world.guide import Guide
from tests.world_helpers import ScriptedEnv, answer, make_rules, make_world, observations_of, play
from tests.world_helpers import record_of as record_in

SHAPE = (40, 50)
ADVICE = 3


class Knows:
    """Whoever is asked says the same."""

    def __init__(self) -> None:
        self.asked = 0

    def act(self, rows_BD: FloatArray, uniforms_B: NDArray[np.float64], /) -> NDArray[np.int64]:
        assert rows_BD.dtype == np.float32
        assert len(rows_BD) == len(uniforms_B)
        self.asked += len(rows_BD)
        return np.full(len(rows_BD), ADVICE)


def led(share: float, epsilon: float, may: bool = True) -> float:
    """Share of the actions that the guide played."""
    guide = Guide(Knows(), share, np.random.default_rng(0))
    actions_EN = np.zeros(SHAPE, dtype=np.int64)
    guided_EN = guide.lead(
        actions_EN, np.zeros((*SHAPE, 2), np.float16), np.full(SHAPE, may), epsilon
    )
    assert ((actions_EN == ADVICE) == guided_EN).all()
    return float(guided_EN.mean())


def test_it_plays_its_share_of_the_exploring_steps() -> None:
    assert led(1.0, 1.0) == 1.0
    assert led(0.0, 1.0) == led(1.0, 0.0) == 0.0
    assert led(0.5, 0.5) == pytest.approx(0.25, abs=0.05)


def test_it_is_shown_no_more_than_it_knows() -> None:
    widths: list[int] = []

    class Looks(Knows):
        def act(self, rows_BD: FloatArray, uniforms_B: NDArray[np.float64], /) -> NDArray[np.int64]:
            widths.append(rows_BD.shape[1])
            return super().act(rows_BD, uniforms_B)

    guide = Guide(Looks(), 1.0, np.random.default_rng(0), features=3)
    rows_END = np.zeros((*SHAPE, 5), np.float16)
    guide.lead(np.zeros(SHAPE, np.int64), rows_END, np.full(SHAPE, True), 1.0)
    assert widths == [3]


def test_it_plays_nowhere_but_in_copies_that_explore() -> None:
    assert led(1.0, 1.0, may=False) == 0.0


@pytest.mark.parametrize(("epsilon", "share"), [(1.0, 0.5), (0.3, 0.5), (0.3, 0.0), (0.3, 1.0)])
def test_agents_and_guide_explore_as_often_as_the_run_asks(epsilon: float, share: float) -> None:
    agents = Guide(Knows(), share, np.random.default_rng(0)).epsilon_of_agents(epsilon)
    guided = epsilon * share
    assert guided + (1.0 - guided) * agents == pytest.approx(epsilon)


def test_what_the_guide_plays_is_what_is_recorded_and_learned_from() -> None:
    guide = Guide(Knows(), 1.0, np.random.default_rng(0))
    rules = replace(
        make_rules(epsilon=lambda _: 1.0), guide=guide, columns=("guided",), train_steps=10
    )
    env = ScriptedEnv(2, deaths={0: [4]})
    world = make_world(env, rules=rules)
    told = observations_of(world.begin_tick())
    assert told[0].epsilon == 0.0  # the guide has all of the exploring
    commands = answer(world)
    commands += play(world)
    record = record_in(commands)
    alive = record.alive[:-1].astype(bool)
    assert (record.actions[alive] == ADVICE).all()
    assert (record.columns["guided"] == alive).all()
    assert (np.array(env.played)[alive] == ADVICE).all()


def test_an_absent_agent_is_not_led() -> None:
    guide = Guide(Knows(), 1.0, np.random.default_rng(0))
    world = make_world(
        env := ScriptedEnv(5), rules=replace(make_rules(epsilon=lambda _: 1.0), guide=guide)
    )
    world.begin_tick()
    answer(world, silent=[2])
    world.deadline()
    assert env.played[0][2] == env.spec.noop_action
    assert env.played[0][1] == ADVICE
