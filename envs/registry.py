"""From the configuration to environments.

    EnvConfig, num_agents -> spec_of | check | make_copies

`spec_of` and `check` import no engine: a launcher and a learner ask them too.
"""

from importlib.util import find_spec

from configs.schema import EnvConfig
from envs.base import EnvSpec
from envs.battle import Battle, battle_spec
from envs.battle_map import deploy
from envs.copies import Copies
from envs.opponents import make_opponent
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
                "pip install 'murmuration[train]'"
            )
        make_opponent(config.opponent)


def make_copies(config: EnvConfig, num_agents: int, seed: int, first_episode: int = 0) -> Copies:
    """Build the configured copies; see `Copies` for `seed` and `first_episode`.

    Raises:
        ValueError: as `check`.
    """
    check(config, num_agents)
    match config.name:
        case "battle":
            deployment = deploy(num_agents)
            return Copies(
                [Battle(deployment, config.max_cycles) for _ in range(config.copies)],
                seed,
                make_opponent(config.opponent),
                first_episode,
            )
        case "relay":
            return Copies(
                [Relay(num_agents) for _ in range(config.copies)],
                seed,
                first_episode=first_episode,
            )
