"""The normalised score: by how many percent a return exceeds the expert heuristic's.

    (return - H) / |H| * 100          (IMP-MARL; the SOPS paper's table 1)

data/heuristics.yaml holds H by system, and how each was obtained.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import yaml

from envs.imp.deterioration import DATA
from envs.imp.options import ImpOptions, Kind


@dataclass(frozen=True, slots=True)
class _Key:
    """What a heuristic's return depends on."""

    kind: Kind
    agents: int
    k: int
    campaign_cost: bool


def normalised(discounted_return: float, reference: float) -> float:
    """Percent by which a return exceeds the heuristic's, which is negative."""
    return (discounted_return - reference) / abs(reference) * 100.0


def heuristic_return(options: ImpOptions, num_agents: int) -> float | None:
    """H of a system; None where nobody has said or computed it."""
    if options.heuristic_return is not None:
        return options.heuristic_return
    k = options.k_of(num_agents)
    return _known().get(_Key(options.kind, num_agents, k, options.campaign_cost))


@cache
def _known() -> dict[_Key, float]:
    text = (DATA / "heuristics.yaml").read_text(encoding="utf-8")
    rows = cast("list[dict[str, Any]]", yaml.safe_load(text))
    return {
        _Key(row["kind"], row["agents"], row["k"], row["campaign_cost"]): row["return"]
        for row in rows
    }
