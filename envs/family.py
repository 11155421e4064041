"""Environments as families: what a module must say so that its environment can be played by name.

    envs/relay.py:  ENVIRONMENT = RelayFamily
    --env relay --env.options … -> RelayFamily("relay") -> read -> options -> spec | check | make

One assignment at the top level of envs/<name>.py, or of envs/<name>/__init__.py, is all that a new
environment takes; there is no table to edit (configs/extensions.py). The launcher asks for spaces
long before anything is played: `spec` and `check` should import no engine if they can do without.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from configs import options as extension_options
from configs.schema import EnvConfig
from envs.base import Env, EnvSpec
from envs.opponent import Opponent

OptionsT = TypeVar("OptionsT")

OPTIONS_FLAG = "--env.options"


@dataclass(frozen=True, kw_only=True, slots=True)
class NoOptions:
    """Of an environment that takes none."""


class EnvFamily(ABC, Generic[OptionsT]):
    """An environment in all its sizes.

    A family whose options are a dataclass of its own says so by `Options`, and gets instances of
    it. `copies`, `shards` and opponents are no business of a family: it makes one environment.
    """

    Options: type[OptionsT]

    is_contested: ClassVar[bool] = False
    """Whether there is another team; such a family is a `ContestedFamily`."""
    has_advisers: ClassVar[bool] = False
    """Whether its opponents' files can advise (agents.adviser) and teach (learner.teacher)."""
    takes_max_cycles: ClassVar[bool] = False
    """Whether `env.max_cycles` says when an episode is truncated."""
    is_heavy: ClassVar[bool] = True
    """Whether a step takes long enough for processes of its own to be worth while (envs/shards.py).
    """
    trainer: ClassVar[str] = ""
    """Who trains opponents with `python -m learner.opponent --env NAME`, as `module:attribute` of a
    dataclass of options: `env`, `out` and its own, and `trained_by`, the module:attribute of what
    takes them. Empty: nobody does."""

    def __init__(self, name: str) -> None:
        """Stand for the environment that goes by this name.

        Args:
            name: in full, as `--env` was given it (pettingzoo:mpe2.simple_spread_v3).
        """
        self.name = name

    def read(self, config: EnvConfig) -> OptionsT:
        """The family's options: those of `env.options`, and of the configuration what it wants.

        Raises:
            ValueError: an option that there is not, or a value out of range.
        """
        return extension_options.read(self.Options, config.options, OPTIONS_FLAG)

    def refuse_options(self, config: EnvConfig) -> None:
        """For a family that reads the configuration instead.

        Raises:
            ValueError: somebody has given `env.options`.
        """
        extension_options.read(NoOptions, config.options, OPTIONS_FLAG)

    def population(self, options: OptionsT) -> int | None:
        """Number of agents, where the environment decides it; None: the run does."""
        del options
        return None

    @abstractmethod
    def spec(self, options: OptionsT, num_agents: int) -> EnvSpec:
        """Spaces and population.

        Raises:
            ValueError: not with so many agents, or not with these options.
        """

    def check(self, options: OptionsT, num_agents: int) -> None:
        """Refuse, before any process is started, what could not be made.

        Raises:
            ValueError: one line that says what is missing, and the way out.
        """
        self.spec(options, num_agents)

    @abstractmethod
    def make(self, options: OptionsT, num_agents: int) -> Env:
        """Build one environment, of the promised `spec`.

        Raises:
            ValueError: as `check`.
        """

    def make_visible(self, options: OptionsT, num_agents: int) -> Env:
        """Build one that is going to be drawn (envs/scene.py), where that is another one.

        Raises:
            ValueError: as `check`.
        """
        return self.make(options, num_agents)


class ContestedFamily(EnvFamily[OptionsT]):
    """A family whose environments are `ContestedEnv`s (envs/copies.py): somebody plays the other
    team.
    """

    is_contested: ClassVar[bool] = True
    evaluated_against: ClassVar[str] = "random"
    """Opponent of `runtime.evaluate`, unless it is told another."""
    judged_against: ClassVar[tuple[str, ...]] = ("random",)
    """Opponents of the studies' tables, one evaluation each."""

    @abstractmethod
    def opponent(self, name: str) -> Opponent:
        """The opponent of this name, or the one in this file.

        Raises:
            ValueError: there is none; says which there are.
        """

    def adviser(self, name: str) -> Opponent:
        """An opponent as it would play on our side, where the family has advisers.

        Raises:
            ValueError: there is none.
        """
        raise ValueError(f"{self.name} has no adviser {name[:100]!r}")
