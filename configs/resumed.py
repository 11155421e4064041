"""What a run that goes on keeps: all that the arrays of its checkpoint and its masks stand for.

    configuration of the run, configuration asked for  ->  first value that may not differ

Everything else may be changed by `--resume`: steps, step size, prices, opponents, how links move.
"""

from dataclasses import dataclass
from typing import Any

from configs.algorithms.described import FLAG, describe
from configs.schema import RunConfig

_KEPT = (
    *(f"network.{x}" for x in ("hidden", "message", "attention", "beacon", "edge_embedding")),
    "network.scorer",
    "network.heads",
    "network.policies",
    "learner.algorithm",
    "learner.aux",
)
_KEPT_IF_SPARSE = (
    *(f"sparse.{x}" for x in ("sparsity", "policy", "mixer", "dense", "allocation")),
    *(f"sparse.{x}" for x in ("pattern", "group")),
)


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
    learner = describe(before.learner.algorithm, before.learner.options)
    own = [name for name in learner.traits.kept if name in learner.options]
    names += [f"learner.{name}" for name in learner.traits.kept if name not in own]
    if learner.traits.fixes_agents:
        names.append("num_agents")
    is_dense = before.sparse.method == "none"
    if is_dense != (asked.sparse.method == "none"):
        return Change("sparse.method", before.sparse.method, asked.sparse.method)
    if not is_dense:
        names += _KEPT_IF_SPARSE
    for name in names:
        old, new = _value(before, name), _value(asked, name)
        if old != new:
            return Change(name, old, new)
    if own:
        new_options = describe(asked.learner.algorithm, asked.learner.options).options
        for name in own:
            if learner.options[name] != new_options[name]:
                return Change(f"{FLAG} {name}", learner.options[name], new_options[name])
    return None


def _value(config: RunConfig, path: str) -> object:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value
