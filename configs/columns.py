"""Columns of a trajectory: what is kept of every step beside observation and action.

    agent (log-probability, gates, …) ─┐
                                       ├─> joiner -> journal -> replay -> batch.columns[name]
    world (masks, guided, …) ──────────┘

A new column costs one declaration and the code that computes it: whatever lies between carries it
by name. An algorithm lists the columns that it learns from, and those and no others are recorded.
No numpy, no torch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from configs.schema import RunConfig

MOST_COLUMNS = 16
"""In one packet."""
LONGEST_NAME = 32


@dataclass(frozen=True, slots=True)
class Column:
    """One number or array per agent and step."""

    name: str
    dtypes: tuple[str, ...]
    """numpy's names of the types that it may have; the first is the usual one."""
    shape: tuple[str | int, ...] = ()
    """Extents behind time and agent: numbers, or names of sizes of the task (num_agents,
    observation_dim, num_actions, num_outputs, state_dim, carry_dim). A mask_shape has several, or
    none where a mask of edges is one number."""
    by: Literal["agent", "world"] = "agent"
    """The agent keeps what it has computed, the world what was played."""
    moments: bool = False
    """It has an entry for the moment after the last step as well: T + 1 and not T. Only the world
    sees that moment."""
    once: bool = False
    """It has one entry for all steps: how a piece of an episode begins."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or len(self.name) > LONGEST_NAME:
            raise ValueError(
                f"a column's name is an identifier of at most {LONGEST_NAME} letters, "
                f"got {self.name!r}"
            )
        if self.moments and self.by == "agent":
            raise ValueError(f"column {self.name}: an agent does not see the moment after the end")

    def entries(self, steps: int) -> int:
        """Entries along time for so many steps."""
        return 1 if self.once else steps + self.moments

    def extents(self, sizes: Mapping[str, int | tuple[int, ...]]) -> tuple[int, ...]:
        """The shape in numbers.

        Raises:
            KeyError: the task has no such size.
        """
        found: list[int] = []
        for name in self.shape:
            size = name if isinstance(name, int) else sizes[name]
            found += [size] if isinstance(size, int) else size
        return tuple(found)


GATES = Column("gates", ("uint16", "uint64"), ("mask_shape",))
"""Bit k: the edge to out-neighbour k was used (runtime/net/edge_bits.py). Always recorded."""
LOG_PROB = Column("log_prob", ("float32",))
"""Of the action that the agent chose, under the policy that chose it."""
VALUE = Column("value", ("float32",))
"""What the agent's own critic expected."""
Q_VALUES = Column("q_values", ("float32",), ("num_outputs",))
"""Of all actions, as the agent computed them; or what else its head says."""
ACTION_MASK = Column("action_mask", ("uint8",), ("num_actions",), by="world", moments=True)
"""1 where the environment allows the action; recorded wherever it has masks."""
GUIDED = Column("guided", ("uint8",), by="world")
"""1 where a guide chose the action that was played (runtime/world/guide.py, asked.py)."""
GUIDE_LOG_PROB = Column("guide_log_prob", ("float32",), by="world")
"""Of the action that was played, under the guide in the learner's process that chose it."""
CARRY = Column("carry", ("float32",), ("carry_dim",), once=True)
"""What a piece of an episode begins with: all that the agent remembers (agents/carry.py)."""
PRESENT = Column("present", ("uint8",), by="world", once=True)
"""1: took part in the step before the piece, so that its last message may still be heard."""
PIECE = Column("piece", ("uint32",), (4,), by="world", once=True)
"""Of which rollout, of which copy, with which step of its episode it begins, and 1 if the episode
goes on behind it; the same for all agents."""
PIECES = (CARRY, PRESENT, PIECE)
"""Recorded where rollouts have a fixed length and cut episodes into pieces."""


_ALL = {c.name: c for c in (GATES, LOG_PROB, VALUE, Q_VALUES, ACTION_MASK, GUIDED, GUIDE_LOG_PROB)}


def recorded(config: "RunConfig", *, trains: bool = False) -> tuple[Column, ...]:
    """What a run records of every step beside observation, action and gates.

    Args:
        trains: the run trains, and so may cut episodes into pieces.

    Raises:
        ValueError: the run's algorithm asks for a column that does not exist, or that agents do not
            compute as they act.
    """
    # Not at the top: a hundred agents import this file, and none of them that one.
    from configs.algorithms.described import traits_of

    traits = traits_of(config.learner)
    asked = sorted(traits.columns)
    algorithm = config.learner.algorithm
    for name in asked:
        if name not in _ALL:
            raise ValueError(
                f"algorithm {algorithm} asks for the column {name}: there are {', '.join(_ALL)}"
            )
        if name == VALUE.name or (name == LOG_PROB.name and traits.acting != "sample"):
            raise ValueError(
                f"algorithm {algorithm} asks for the column {name}, which agents that act by "
                f"{traits.acting} do not compute"
            )
    extra = (Q_VALUES,) if config.agents.record_q else ()
    if trains and traits.rollout_steps:
        extra += PIECES
    return tuple(dict.fromkeys((*(_ALL[name] for name in asked), *extra)))


def by_agents(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Those that agents record: the gates first, then as asked for, each once."""
    return tuple(dict.fromkeys((GATES, *(c for c in columns if c.by == "agent"))))


def by_world(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Those that the world records, each once."""
    return tuple(dict.fromkeys(c for c in columns if c.by == "world"))
