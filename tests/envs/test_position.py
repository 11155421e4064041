"""Observations that end with their agent's position (envs/position.py)."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from configs.load import preset_for
from configs.schema import EnvConfig
from envs import registry
from envs.base import Env
from envs.battle.map import deploy
from envs.position import with_position

SIZES = {"battle": 20, "adversarial-pursuit": 25, "gather": 12}
NAMES = pytest.mark.parametrize("name", list(SIZES))


def env_of(name: str, options: str) -> Env:
    config = replace(preset_for(name).env, options=options)
    family = registry.family_of(name)
    return family.make(family.read(config), SIZES[name])


@NAMES
def test_a_position_follows_what_is_seen_and_changes_nothing_of_it(name: str) -> None:
    plain, placed = env_of(name, ""), env_of(name, "position=true")
    assert placed.spec.observation_shape == (plain.spec.observation_dim + 2,)
    assert (plain.spec.has_position, placed.spec.has_position) == (False, True)
    rng = np.random.default_rng(0)
    seen, more = plain.reset(7), placed.reset(7)
    for _ in range(5):
        assert_array_equal(more.observations_ND[:, :-2], seen.observations_ND)
        places_N2 = more.observations_ND[:, -2:][more.alive_N]
        assert np.abs(places_N2).max() <= 1.0
        assert len(np.unique(places_N2, axis=0)) == more.alive_N.sum(), "nobody shares a cell"
        actions_N = rng.integers(plain.spec.num_actions, size=SIZES[name])
        seen, more = plain.step(actions_N).after, placed.step(actions_N).after
    plain.close()
    placed.close()


def test_the_first_places_of_a_battle_are_those_of_its_map() -> None:
    map_ = deploy(20)
    battle = env_of("battle", "position=true")
    places_N2 = battle.reset(0).observations_ND[:, -2:].astype(np.float64)
    cells_N2 = (places_N2 + 1.0) / 2.0 * (map_.map_size - 1)
    assert_allclose(cells_N2, map_.left, atol=0.02)
    battle.close()


def test_the_dead_are_nowhere() -> None:
    seen_ND = np.ones((3, 1), np.float16)
    placed_ND = with_position(seen_ND, np.array([0, 2]), np.array([[0, 10], [5, 10]]), 11)
    assert_array_equal(placed_ND[:, 1:], [[-1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])


@NAMES
def test_the_registry_reads_the_option(name: str) -> None:
    config = EnvConfig(name=name, options="position=true")
    assert registry.spec_of(config, SIZES[name]).has_position
    assert not registry.spec_of(EnvConfig(name=name), SIZES[name]).has_position
