"""Environments of others by name: found, made by options, played, and refused in one line."""

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from configs.schema import EnvConfig
from envs import registry
from envs.copies import Copies, EnvFailure
from envs.spaces import Box, Discrete
from tests.foreign_envs import Foreign

SPREAD = "pettingzoo:mpe2.simple_spread_v3"


def config(name: str = SPREAD, options: str = "", **others: int) -> EnvConfig:
    return EnvConfig(name=name, options=options, **others)  # type: ignore[arg-type]


def copies_of(config: EnvConfig, seed: int = 0) -> Copies:
    population = registry.population_of(config)
    assert population is not None
    return registry.make_copies(config, population, seed)


@pytest.mark.parametrize("options", ["N=5,max_cycles=7", "n=5,max_cycles=7"])
def test_options_are_the_keyword_arguments(options: str) -> None:
    """Also where they differ in capitals only, as the number of agents does among them."""
    asked = config(options=options)
    assert registry.population_of(asked) == 5
    spec = registry.spec_of(asked, 5)
    assert (spec.num_agents, spec.actions, spec.episode_limit) == (5, Discrete(5), 7)


def test_episodes_last_as_long_as_the_environment_says() -> None:
    copies = copies_of(config(options="max_cycles=7", max_cycles=200))
    copies.reset()
    ends = [copies.step(np.zeros((1, 3), np.int64))[0].transition.truncated for _ in range(14)]
    assert ends == [*[False] * 6, True] * 2


def test_equal_seeds_give_equal_episodes() -> None:
    def played(seed: int) -> list[tuple[bytes, bytes, bytes]]:
        copies = copies_of(config(copies=2), seed)
        rng = np.random.default_rng(3)
        copies.reset()
        steps = [copies.step(rng.integers(5, size=(2, 3))) for _ in range(60)]
        return [
            (
                step.now.observations_ND.tobytes(),
                step.now.state_S.tobytes(),
                step.transition.rewards_N.tobytes(),
            )
            for both in steps
            for step in both
        ]

    assert played(4) == played(4)
    assert played(4) != played(5)


def test_the_environments_own_state_is_used_where_it_has_one() -> None:
    copies = copies_of(config("pettingzoo:mpe2.simple_tag_v3"))
    (now,) = copies.reset()
    # It has no use for what we fill up and add.
    assert registry.spec_of(config("pettingzoo:mpe2.simple_tag_v3"), 4).state_dim == 62
    assert_array_equal(now.state_S[:16], now.observations_ND[0, :16])


def test_continuous_actions_are_those_of_the_environment() -> None:
    asked = config(options="continuous_actions=true")
    spec = registry.spec_of(asked, 3)
    assert spec.actions == Box((0.0,) * 5, (1.0,) * 5)
    copies = copies_of(asked)
    copies.reset()
    actions = np.random.default_rng(0).random((1, 3, 5), dtype=np.float32)
    assert copies.step(actions)[0].transition.rewards_N.any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PettingZoo, for all of its own
def test_agents_that_take_turns_are_converted() -> None:
    copies = copies_of(config("pettingzoo:pettingzoo.classic.tictactoe_v3"))
    (now,) = copies.reset()
    for _ in range(9):
        masks_NA = now.action_masks_NA
        assert masks_NA is not None
        (step,) = copies.step(np.array([masks_NA.argmax(axis=1)]))
        if step.transition.terminated:
            break
        now = step.now
    else:
        pytest.fail("nine turns fill the board")


@pytest.mark.parametrize(
    ("name", "options", "agents", "says"),
    [
        (SPREAD, "", 8, "has 3 agents, not 8: leave out --agents, or have it made with --env.op"),
        (SPREAD, "", 8, r"--env.options N=8"),
        (SPREAD, "wings=2", 3, "cannot be made with wings=2: TypeError: .*wings.*it takes N, "),
        (SPREAD, "N", 3, "--env.options takes name=value"),
        ("pettingzoo", "", 3, "wants a module behind a colon"),
        ("pettingzoo:nosuch.thing_v1", "", 3, "needs the package nosuch, which is not installed"),
        ("pettingzoo:mpe2.nosuch_v1", "", 3, "cannot be imported: ModuleNotFoundError"),
        ("pettingzoo:json", "", 3, "json has neither parallel_env nor env"),
        ("nosuch.module:make", "", 3, "nosuch.module cannot be imported"),
        ("json:nosuch", "", 3, "json has no nosuch"),
        ("json:dumps", "obj=1", 3, "makes a str: it must return a PettingZoo environment"),
        ("string:ascii_letters", "", 3, "is a str: give a callable"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(
    name: str, options: str, agents: int, says: str
) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        registry.check(config(name, options), agents)
    assert "\n" not in str(refused.value)


def test_a_callable_may_be_in_any_module_that_can_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_meeting_env.py").write_text(
        "from tests.foreign_envs import Foreign\n"
        "def make(agents=2):\n"
        "    return Foreign(tuple(f'agent_{i}' for i in range(agents)))\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    asked = config("my_meeting_env:make", "agents=6")
    assert registry.population_of(asked) == 6
    assert registry.spec_of(asked, 6).episode_limit == asked.max_cycles
    sys.modules.pop("my_meeting_env")


def test_a_callable_may_return_an_environment_of_ours() -> None:
    asked = config("envs.relay:Relay", "num_agents=6")
    assert registry.population_of(asked) == 6
    assert copies_of(asked).spec.name == "relay"


def test_an_environment_that_raises_is_named() -> None:
    copies = copies_of(config("tests.foreign_envs:make", "raises_at=2"))
    copies.reset()
    copies.step(np.zeros((1, 2), np.int64))
    with pytest.raises(EnvFailure) as failed:
        copies.step(np.zeros((1, 2), np.int64))
    assert str(failed.value) == (
        "the environment tests.foreign_envs:make failed in its step: RuntimeError: the table has "
        "fallen over"
    )
    assert isinstance(failed.value.__cause__, RuntimeError)


def test_an_environment_that_says_nothing_of_agents_is_refused() -> None:
    class Nameless(Foreign):
        def reset(self, seed: int | None = None, options: object = None) -> None:  # type: ignore[override]  # wrong on purpose
            del seed, options

    from envs.pettingzoo import CallableFamily

    family = CallableFamily("nameless:Nameless", Nameless)
    with pytest.raises(ValueError, match="nameless:Nameless cannot be played: TypeError"):
        family.population(family.read(config("nameless:Nameless")))
