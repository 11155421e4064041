"""What a run that goes on keeps: all that the arrays of its checkpoint and its masks stand for.

    configuration of the run, configuration asked for  ->  first value that may not differ

Everything else may be changed by `--resume`: steps, step size, prices, opponents, how links move.
"""

from dataclasses import dataclass
from typing import Any

from configs.schema import RunConfig

_KEPT = (
    *(f"network.{x}" for x in ("hidden", "message", "attention", "beacon", "edge_embedding")),
    "network.scorer",
    "learner.algorithm",
    *(f"learner.{x}" for x in ("mixing_embed", "hypernet_embed", "central_hidden")),
    *(f"learner.{x}" for x in ("central_embed", "critic_hidden", "aux")),
)
_KEPT_IF_SPARSE = (
    *(f"sparse.{x}" for x in ("sparsity", "policy", "mixer", "dense", "allocation")),
    *(f"sparse.{x}" for x in ("pattern", "group")),
)
_WITHOUT_MIXER = ("iql", "vdn")


@dataclass(frozen=True, slots=True)
class Change:
    """A value that a resumed run cannot have."""

    name: str
    before: object
    asked: object


def forbidden_change(before: RunConfig, asked: RunConfig) -> Change | None:
    """The first value that does not fit what the run has stored; None: the run can go on.

    Args:
        before: of the run as it was.
        asked: the same with what the command line has changed.
    """
    names = list(_KEPT)
    if before.learner.algorithm not in _WITHOUT_MIXER:
        names.append("num_agents")  # a mixer has a weight for each
    is_dense = before.sparse.method == "none"
    if is_dense != (asked.sparse.method == "none"):
        return Change("sparse.method", before.sparse.method, asked.sparse.method)
    if not is_dense:
        names += _KEPT_IF_SPARSE
    for name in names:
        old, new = _value(before, name), _value(asked, name)
        if old != new:
            return Change(name, old, new)
    return None


def _value(config: RunConfig, path: str) -> object:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value
