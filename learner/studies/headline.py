"""The figure by which policies of an environment are compared, and against whom.

task -> spec.headline: return, win_rate or the environment's own -> name in print, value
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from configs.load import preset_for
from configs.schema import EnvName
from envs import registry
from envs.family import ContestedFamily


@cache
def headline_of(task: EnvName) -> str:
    """Name of the figure: return, win_rate or one of the environment's metrics."""
    preset = preset_for(task)
    agents = registry.population_of(preset.env) or preset.num_agents
    return registry.spec_of(preset.env, agents).headline


def opponents_of(task: EnvName) -> tuple[str, ...]:
    """Who is met in evaluations; nobody, in an environment without another team."""
    family = registry.family_of(task)
    return family.judged_against if isinstance(family, ContestedFamily) else ("",)


def reached_of(figures: Mapping[str, Any], task: EnvName) -> float:
    """The headline figure of an evaluation (`runtime.evaluate --json`)."""
    match headline_of(task):
        case "return":
            return float(figures["return_mean"])
        case "win_rate":
            return float(figures["win_rate"])
        case metric:
            return float(figures["metrics"][metric])


def in_print(task: EnvName) -> str:
    """The figure's name for tables: win rate, mean return."""
    name = headline_of(task)
    return "mean return" if name == "return" else name.replace("_", " ")
