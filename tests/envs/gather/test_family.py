"""Gather by name: spaces, refusals, copies in shards, PettingZoo's own tests."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from configs.schema import EnvConfig
from envs.base import EnvSpec
from envs.copies import Copies, EnvCopies
from envs.parallel import Parallel
from envs.registry import check, family_of, make_copies, opponents_of, spec_of
from envs.shards import Shards, share_out

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it loads environments of its own by names it has deprecated
    theirs: Any = importlib.import_module("pettingzoo.test")
api_test: Callable[..., None] = theirs.parallel_api_test
seed_test: Callable[..., None] = theirs.parallel_seed_test

NAME = "gather"
COPIES, AGENTS = 5, 6
CONFIG = EnvConfig(name=NAME, copies=COPIES, options="max_cycles=12", shards=1)


@pytest.mark.parametrize("num_agents", [24, 27, 48, 56, 96, 115])
def test_it_goes_by_its_name_and_says_what_it_is_before_an_engine_is_there(num_agents: int) -> None:
    spec = spec_of(EnvConfig(name=NAME), num_agents)
    assert isinstance(spec, EnvSpec)
    assert (spec.num_agents, spec.episode_limit) == (num_agents, 100)
    assert (spec.observation_shape, spec.num_actions, spec.state_dim) == ((3, 15, 15), 33, 288)
    assert spec_of(CONFIG, num_agents).episode_limit == 12


def test_it_refuses_options_and_numbers_that_there_are_not_and_has_no_opponents() -> None:
    with pytest.raises(ValueError, match="max-cycles must be between 1"):
        check(EnvConfig(name=NAME, options="max_cycles=0"), 24)
    with pytest.raises(ValueError, match="has no map_size"):
        check(EnvConfig(name=NAME, options="map_size=24"), 24)
    with pytest.raises(ValueError, match="between 2 and 1024 agents"):
        check(EnvConfig(name=NAME), 1)
    assert opponents_of(CONFIG) is None


def play(copies: EnvCopies) -> list[bytes]:
    """All that copies tell within three episodes."""
    rng = np.random.default_rng(1)
    now = copies.reset()
    told = [snapshot.observations_ND.tobytes() for snapshot in now]
    for step in range(30):
        actions_EN = rng.integers(copies.spec.num_actions, size=(COPIES, AGENTS))
        for copy in copies.step(actions_EN):
            told += [copy.now.observations_ND.tobytes(), copy.now.state_S.tobytes()]
            told.append(copy.transition.rewards_N.tobytes())
            assert copy.transition.truncated == (step % 12 == 11)
            assert ("food_eaten" in copy.transition.metrics) == copy.transition.truncated
            told.append(repr(dict(copy.transition.metrics)).encode())
    copies.close()
    return told


@pytest.mark.process
def test_shards_play_what_one_process_plays() -> None:
    def make(share: range | None = None) -> Copies:
        return make_copies(CONFIG, AGENTS, seed=4, share=share)

    here = play(make())
    assert len(set(here)) > len(here) // 4
    assert play(Shards(make, spec_of(CONFIG, AGENTS), share_out(COPIES, 2), 60.0)) == here


def test_pettingzoo_finds_nothing_wrong() -> None:
    family = family_of(NAME)
    options = family.read(CONFIG)

    def make() -> Parallel:
        return Parallel(family.make(options, AGENTS))

    with warnings.catch_warnings():
        # It wants observations to stay within finite bounds, and names to be its own.
        warnings.simplefilter("ignore")
        api_test(make(), num_cycles=40)
        seed_test(make, num_cycles=40)
