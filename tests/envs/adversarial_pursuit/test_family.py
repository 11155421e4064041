"""AdversarialPursuit by name: spaces, refusals, copies in shards, PettingZoo's own tests."""

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
from envs.registry import check, contested_family_of, make_copies, opponents_of, spec_of
from envs.shards import Shards, share_out

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it loads environments of its own by names it has deprecated
    theirs: Any = importlib.import_module("pettingzoo.test")
api_test: Callable[..., None] = theirs.parallel_api_test
seed_test: Callable[..., None] = theirs.parallel_seed_test

NAME = "adversarial-pursuit"
COPIES, AGENTS = 5, 6
CONFIG = EnvConfig(
    name=NAME, copies=COPIES, opponent="random+scripted", options="max_cycles=12", shards=1
)


def test_it_goes_by_its_name_and_says_what_it_is_before_an_engine_is_there() -> None:
    spec = spec_of(EnvConfig(name=NAME), 25)
    assert isinstance(spec, EnvSpec)
    assert (spec.observation_dim, spec.num_actions, spec.state_dim) == (128, 13, 128)
    assert (spec.episode_limit, spec.headline, spec.can_be_won) == (200, "return", False)
    assert spec_of(CONFIG, AGENTS).episode_limit == 12


def test_it_refuses_prey_options_and_numbers_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="no prey 'wolves'"):
        check(EnvConfig(name=NAME, opponent="wolves"), 25)
    with pytest.raises(ValueError, match="max-cycles must be between 1"):
        check(EnvConfig(name=NAME, options="max_cycles=0"), 25)
    with pytest.raises(ValueError, match="between 2 and 1024 agents"):
        check(EnvConfig(name=NAME), 1)
    schedule = opponents_of(CONFIG)
    assert schedule is not None
    assert schedule.names == ("random", "scripted")


def play(copies: EnvCopies) -> list[bytes]:
    """All that copies tell within three episodes."""
    rng = np.random.default_rng(1)
    now = copies.reset()
    told = [snapshot.observations_ND.tobytes() for snapshot in now]
    for step in range(30):
        actions_EN = rng.integers(copies.spec.num_actions, size=(COPIES, AGENTS))
        opponents_E = np.arange(COPIES) % 2
        for copy in copies.step(actions_EN, opponents_E):
            told += [copy.now.observations_ND.tobytes(), copy.now.state_S.tobytes()]
            told.append(copy.transition.rewards_N.tobytes())
            assert copy.transition.truncated == (step % 12 == 11)
            assert ("tags" in copy.transition.metrics) == copy.transition.truncated
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


@pytest.mark.parametrize("prey", ["random", "scripted"])
def test_pettingzoo_finds_nothing_wrong(prey: str) -> None:
    family = contested_family_of(NAME)
    options = family.read(CONFIG)

    def make() -> Parallel:
        return Parallel(family.make(options, AGENTS), family.opponent(prey))

    with warnings.catch_warnings():
        # It wants observations to stay within finite bounds, and names to be its own.
        warnings.simplefilter("ignore")
        api_test(make(), num_cycles=40)
        seed_test(make, num_cycles=40)
