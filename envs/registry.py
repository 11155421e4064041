"""From the configuration to environments.

    EnvConfig, num_agents -> spec_of | check | make_copies

`spec_of` and `check` import no engine: a launcher and a learner ask them too.
"""

from importlib.util import find_spec

from configs.schema import EnvConfig
from envs.base import EnvSpec
from envs.battle.battle import Battle, battle_spec
from envs.battle.map import deploy
from envs.battle.opponents import make_opponent
from envs.copies import Copies
from envs.opponent_schedule import OpponentSchedule
from envs.relay import Relay, relay_spec


def spec_of(config: EnvConfig, num_agents: int) -> EnvSpec:
    """Spaces of the configured environment.

    Raises:
        ValueError: the environment does not take this many agents.
    """
    match config.name:
        case "battle":
            deploy(num_agents)
            return battle_spec(num_agents, config.max_cycles)
        case "relay":
            return relay_spec(num_agents)


def check(config: EnvConfig, num_agents: int) -> None:
    """Refuse, before any process is started, what could not run.

    Raises:
        ValueError: population, missing engine or unusable opponent, with the way out.
    """
    spec_of(config, num_agents)
    if config.name == "battle":
        if find_spec("magent2") is None:
            raise ValueError(
                "battle needs the package magent2, which is not installed: "
                'install it with pip install -e ".[train]" in the folder of Murmuration'
            )
        for name in opponents_of(config).names:
            make_opponent(name)


def opponents_of(config: EnvConfig) -> OpponentSchedule:
    """Who is met when.

    Raises:
        ValueError: the schedule cannot be read.
    """
    return OpponentSchedule.parse(config.opponent, config.evaluation_opponent)


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
    match config.name:
        case "battle":
            deployment = deploy(num_agents)
            return Copies(
                [Battle(deployment, config.max_cycles) for _ in share],
                seed,
                [make_opponent(name) for name in opponents_of(config).names],
                first_episode,
                share.start,
                life,
            )
        case "relay":
            return Copies(
                [Relay(num_agents) for _ in share],
                seed,
                first_episode=first_episode,
                first_copy=share.start,
                life=life,
            )
