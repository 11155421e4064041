"""Environments of others: PettingZoo's, and what a callable of the user's returns.

    --env pettingzoo:mpe2.simple_spread_v3 --env.options N=8,max_cycles=50
    --env my_package.my_env:make           --env.options size=9

The environment decides how many agents there are, what they see and do. Environments in which
agents take turns (AEC) go through PettingZoo's own converters. A callable may as well return one of
ours (envs/base.py).
"""

import importlib
import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

from configs import bounded
from configs import options as extension_options
from configs.schema import EnvConfig
from envs.base import Env, EnvSpec
from envs.family import OPTIONS_FLAG, EnvFamily
from envs.installed import check_installed

Make = Callable[..., Any]

_SIZES = frozenset({"n", "num_agents", "n_agents", "num_players", "n_players", "players"})
"""What the argument that sets the number of agents is usually called."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments:
    """Keyword arguments of whatever makes the environment, and how long it lasts at most."""

    keywords: Mapping[str, Any]
    max_cycles: int
    """Of the configuration: for an environment that does not say so itself."""


class ForeignFamily(EnvFamily[Arguments]):
    """Environments that a callable makes, about which nothing is known before."""

    Options = Arguments
    takes_max_cycles: ClassVar[bool] = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._specs: dict[str, EnvSpec] = {}

    def read(self, config: EnvConfig) -> Arguments:
        return Arguments(
            keywords=extension_options.parse(config.options, OPTIONS_FLAG),
            max_cycles=config.max_cycles,
        )

    def population(self, options: Arguments) -> int:
        return self._spec(options).num_agents

    def spec(self, options: Arguments, num_agents: int) -> EnvSpec:
        spec = self._spec(options)
        if num_agents != spec.num_agents:
            size = next((p for p in self._parameters() if p.lower() in _SIZES), None)
            have = (
                f"have it made with {OPTIONS_FLAG} {size}={num_agents}"
                if size is not None
                else f"see whether it takes an option ({OPTIONS_FLAG}) for their number"
            )
            raise ValueError(
                f"{self.name} has {spec.num_agents} agents, not {num_agents}: leave out --agents, "
                f"or {have}"
            )
        return spec

    def make(self, options: Arguments, num_agents: int) -> Env:
        del num_agents
        made = self._made(self.maker(), options)
        if isinstance(getattr(made, "spec", None), EnvSpec):
            return cast("Env", made)
        from envs.from_parallel import FromParallel  # gymnasium

        env = _parallel(made)
        if env is None:
            raise ValueError(
                f"{self.name} makes a {type(made).__name__}: it must return a PettingZoo "
                "environment with possible_agents, or an environment as in envs/base.py"
            )
        limit = _own_limit(env, options.keywords) or options.max_cycles
        try:
            return FromParallel(env, self.name, limit)
        except Exception as error:
            # Its spaces or its first episode: somebody else's code, to be told in one line.
            raise ValueError(f"{self.name} cannot be played: {_said(error)}") from error

    def make_visible(self, options: Arguments, num_agents: int) -> Env:
        """With render_mode rgb_array, as PettingZoo's take it; without, if this one does not."""
        visible = replace(options, keywords={"render_mode": "rgb_array", **options.keywords})
        try:
            return self.make(visible, num_agents)
        except ValueError:
            return self.make(options, num_agents)

    @abstractmethod
    def maker(self) -> Make:
        """What makes an environment, by keyword arguments.

        Raises:
            ValueError: there is nothing that does.
        """

    def documented(self) -> tuple[Any, ...]:
        """What may say which arguments there are."""
        return (self.maker(),)

    def _spec(self, options: Arguments) -> EnvSpec:
        key = repr(options)
        if key not in self._specs:
            env = self.make(options, 0)
            self._specs[key] = env.spec
            env.close()
        return self._specs[key]

    def _parameters(self) -> list[str]:
        """Names of the arguments, as far as they are known."""
        names: list[str] = []
        for source in self.documented():
            try:
                parameters = inspect.signature(source).parameters.values()
            except (TypeError, ValueError):
                continue
            variadic = inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
            names += [p.name for p in parameters if p.kind not in variadic]
        return list(dict.fromkeys(names))

    def _made(self, maker: Make, options: Arguments) -> Any:
        known = self._parameters()
        keywords = {_as_known(name, known): value for name, value in options.keywords.items()}
        try:
            return maker(**keywords)
        except Exception as error:
            given = ", ".join(f"{name}={bounded.brief(value)}" for name, value in keywords.items())
            takes = f" (it takes {', '.join(known)})" if known and keywords else ""
            raise ValueError(
                f"{self.name} cannot be made with {given or 'no options'}: {_said(error)}{takes}"
            ) from error


class PettingZooFamily(ForeignFamily):
    """Modules that have `parallel_env`, or `env`, as PettingZoo's have."""

    def maker(self) -> Make:
        module = self._module()
        for attribute in ("parallel_env", "env"):
            if hasattr(module, attribute):
                return cast("Make", getattr(module, attribute))
        raise ValueError(f"{self.name}: {module.__name__} has neither parallel_env nor env")

    def documented(self) -> tuple[Any, ...]:
        # parallel_env and env are often wrappers that take anything and hand it on.
        return (self.maker(), getattr(self._module(), "raw_env", None))

    def _module(self) -> Any:
        path = self.name.partition(":")[2]
        if not path:
            raise ValueError(
                "--env pettingzoo wants a module behind a colon, for example "
                "pettingzoo:mpe2.simple_spread_v3"
            )
        check_installed(self.name, "pettingzoo", "train")
        try:
            return importlib.import_module(path)
        except Exception as error:
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            if missing is None or "." in missing:
                raise ValueError(f"{self.name} cannot be imported: {_said(error)}") from error
            raise ValueError(
                f"{self.name} needs the package {missing}, which is not installed: install it, "
                f"for example with pip install {missing}"
            ) from error


class CallableFamily(ForeignFamily):
    """What somebody's own callable makes (`--env my_package.my_env:make`)."""

    def __init__(self, name: str, make: Make) -> None:
        super().__init__(name)
        self._make = make

    def maker(self) -> Make:
        return self._make


def _parallel(made: Any) -> Any:
    """The environment with all agents acting at once; None if it is no environment of PettingZoo's.

    Where agents really take turns, only the action of whose turn it is counts.
    """
    if not hasattr(made, "possible_agents"):
        return None
    if not hasattr(made, "agent_iter"):
        return made
    from pettingzoo.utils.conversions import aec_to_parallel, turn_based_aec_to_parallel

    at_once = made.metadata.get("is_parallelizable", False)
    return aec_to_parallel(made) if at_once else turn_based_aec_to_parallel(made)


def _own_limit(env: Any, keywords: Mapping[str, Any]) -> int | None:
    """Steps after which the environment ends an episode itself, if it says so."""
    inner = getattr(env, "unwrapped", env)
    for limit in (keywords.get("max_cycles"), getattr(inner, "max_cycles", None)):
        if type(limit) is int and limit > 0:
            return limit
    return None


def _as_known(name: str, known: list[str]) -> str:
    """The parameter of this name, or the only one that differs in capitals: n for N."""
    if name in known:
        return name
    alike = [parameter for parameter in known if parameter.lower() == name.lower()]
    return alike[0] if len(alike) == 1 else name


def _said(error: Exception) -> str:
    return bounded.shorten(f"{type(error).__name__}: {' '.join(str(error).split())}", 300)


ENVIRONMENT = PettingZooFamily
