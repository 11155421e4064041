"""From the configuration to environments.

    EnvConfig, num_agents -> spec_of | check | opponents_of | make_copies

Families are found by name (configs/extensions.py), and all else is asked of them (envs/family.py).
`spec_of` and `check` import no engine where the family does without: a launcher asks them too.
"""

import inspect
from functools import lru_cache
from typing import Any, cast

from configs.arrays import Bounds
from configs.extensions import ENVIRONMENT, ExtensionError, load
from configs.schema import EnvConfig, RunConfig
from envs.base import EnvSpec
from envs.copies import Copies
from envs.family import ContestedFamily, EnvFamily
from envs.opponent import Opponent
from envs.opponent_schedule import OpponentSchedule

Family = EnvFamily[Any]


@lru_cache(maxsize=64)
def family_of(name: str) -> Family:
    """The family of an environment's name.

    Raises:
        ExtensionError: nothing goes by it, or what does is no environment.
    """
    found = cast("Any", load(ENVIRONMENT, name))
    if inspect.isclass(found) and issubclass(cast("type[Any]", found), EnvFamily):
        return cast("type[Family]", found)(name)
    if callable(cast("Any", found)):
        from envs.pettingzoo import CallableFamily  # gymnasium, which the others do without

        return CallableFamily(name, cast("Any", found))
    raise ExtensionError(
        f"{ENVIRONMENT.option} {name} is a {type(found).__name__}: give a callable that returns a "
        "PettingZoo parallel environment, or a subclass of envs.family.EnvFamily"
    )


@lru_cache(maxsize=64)
def spec_of(config: EnvConfig, num_agents: int) -> EnvSpec:
    """Spaces of the configured environment.

    Raises:
        ValueError: the environment does not take this many agents, or not these options.
    """
    family = family_of(config.name)
    return family.spec(family.read(config), num_agents)


def population_of(config: EnvConfig) -> int | None:
    """Number of agents, where the environment decides it; None: the run does.

    Raises:
        ValueError: there is no such environment, or not with these options.
    """
    family = family_of(config.name)
    return family.population(family.read(config))


def check(config: EnvConfig, num_agents: int) -> None:
    """Refuse, before any process is started, what could not run.

    Raises:
        ValueError: population, options, missing engine or unusable opponent, with the way out.
    """
    family = family_of(config.name)
    family.check(family.read(config), num_agents)
    _opponents(config)


def opponents_of(config: EnvConfig) -> OpponentSchedule | None:
    """The schedule of the other team's players; None where there is no other team.

    Raises:
        ValueError: the schedule cannot be read.
    """
    if not family_of(config.name).is_contested:
        return None
    return OpponentSchedule.parse(config.opponent, config.evaluation_opponent)


def contested_family_of(name: str) -> ContestedFamily[Any]:
    """The family of an environment in which there is another team.

    Raises:
        ValueError: there is none in this one.
    """
    family = family_of(name)
    if not isinstance(family, ContestedFamily):
        raise ValueError(f"{name} has no second team")
    return family


def make_copies(
    config: EnvConfig,
    num_agents: int,
    seed: int,
    first_episode: int = 0,
    share: range | None = None,
    life: int = 0,
) -> Copies:
    """Build the configured copies; see `Copies` for `seed`, `first_episode` and `life`.

    Args:
        share: numbers of the copies to build; None: all of them.

    Raises:
        ValueError: as `check`.
    """
    check(config, num_agents)
    share = range(config.copies) if share is None else share
    family = family_of(config.name)
    options = family.read(config)
    return Copies(
        [family.make(options, num_agents) for _ in share],
        seed,
        _opponents(config),
        first_episode,
        share.start,
        life,
    )


def _opponents(config: EnvConfig) -> list[Opponent]:
    schedule = opponents_of(config)
    if schedule is None:
        return []
    family = contested_family_of(config.name)
    return [family.opponent(name) for name in schedule.names]


def observation_shape_of(config: RunConfig) -> tuple[int, ...]:
    """Of an observation before it is laid flat, for policies whose network asks for it; () for the
    usual one, whose hosts need not know the environment.
    """
    if config.network.name == "gru":
        return ()
    return spec_of(config.env, config.num_agents).observation_shape


def bounds_of(config: RunConfig) -> Bounds | None:
    """Of the real numbers that make up an action of a run's environment; None: they are chosen."""
    return spec_of(config.env, config.num_agents).bounds
