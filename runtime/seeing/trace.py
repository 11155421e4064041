"""What happened in one episode, step by step: all that pictures and the page are made of.

    config, policy -> SerialRun (the agents' own cores) around a Watched copy -> Trace

One process and no torch. It is the episode that `runtime.evaluate --episodes 1` plays with the same
seed: the same cores, opponents and draws.

Dimension key: T = steps, N = agents, D = observation features, K = edges of each direction, L = 1 +
K tokens (own message first).
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.insight import Insight
from agents.policy import PolicyFile
from configs.arrays import BoolArray, FloatArray
from configs.schema import RunConfig
from envs import registry
from envs.scene import Scene
from runtime.run.placement import Placement
from runtime.run.plan import Plan
from runtime.run.serial import SerialRun
from runtime.seeing.watched import Watched, watched_copy
from runtime.world.process import rules_of


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trace:
    """One greedy episode."""

    env: str
    num_agents: int
    seed: int
    opponent: str
    """Who played the other team; empty where there is none."""
    offsets: tuple[int, ...]
    """[K] edge k leads from agent i to agent (i + offsets[k]) mod N."""
    scenes: tuple[Scene | None, ...]
    """[T + 1] before each step and at the end."""
    observations_TND: NDArray[Any]
    """As agents saw them; zeros for the dead."""
    alive_TN: BoolArray
    """Before each step."""
    actions_TN: NDArray[Any]
    """As they were played; [T, N, n] of a box."""
    rewards_TN: FloatArray
    open_TNK: BoolArray
    """Out-edges that carry what an agent says in this step: it is heard in the next. With the
    paper's timing it is what it said in the step before, and is heard at once."""
    heard_TNK: BoolArray
    """In-edges, from agent (i - offsets[k]) mod N, whose message went into this step."""
    scores_TNK: FloatArray | None
    """What each out-edge was chosen by (agents/insight.py); the learned gate opens above 0. None:
    the scheme scores nothing."""
    weights_TNL: FloatArray | None
    """Attention over the own message and those heard; None: the scheme has none."""
    message_bytes: int
    """Of one message, without headers."""
    ended: bool
    """Whether the episode was played to its end."""
    won: bool | None
    """None: it was not, or cannot be won."""
    metrics: Mapping[str, float]
    """Further figures of the environment's own."""

    @property
    def steps(self) -> int:
        """T"""
        return len(self.open_TNK)

    @property
    def episode_return(self) -> float:
        """Undiscounted sum over steps of the mean reward of all N agents."""
        return float(self.rewards_TN.mean(axis=1, dtype=np.float64).sum())

    @property
    def bytes_per_agent_step(self) -> float:
        """Of messages alone, over the steps of living agents."""
        return float(self.open_TNK.sum() * self.message_bytes / max(self.alive_TN.sum(), 1))


def trace_episode(
    config: RunConfig,
    policy: PolicyFile,
    *,
    max_steps: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Trace:
    """Play one greedy episode and keep all of it.

    Args:
        config: of `runtime.evaluate.resolve`.
        max_steps: of the episode, of which the rest is not played; 0: all.
        progress: called with the number of steps played.

    Raises:
        ValueError: the environment, its size or its opponent cannot be had.
    """
    config = replace(config, env=replace(config.env, copies=1, shards=1))
    with closing(watched_copy(config)) as copies:
        run = _serial_run(config, policy, copies)
        insights: list[list[Insight]] = []
        run.world.evaluate(1)
        while run.is_playing and not 0 < max_steps <= len(insights):
            run.tick()
            insights.append([agent.look_back() for agent in run.agents])
            if progress is not None:
                progress(len(insights))
        return _trace_of(config, policy, copies, run, insights)


def _serial_run(config: RunConfig, policy: PolicyFile, copies: Watched) -> SerialRun:
    places = Placement(Plan.of_evaluation(config, policy, 1, Path()), "")
    return SerialRun(
        copies,
        places.node("", "", "").rules,
        policy.flat,
        rules_of(places.world("", "")),
        config.seed,
        version=policy.version,
    )


def _trace_of(
    config: RunConfig,
    policy: PolicyFile,
    copies: Watched,
    run: SerialRun,
    insights: list[list[Insight]],
) -> Trace:
    alive_TN = np.array(copies.alive)
    # The dead relay in some runs: their edges are theirs, but what they heard is nobody's.
    acts_TN = np.ones_like(alive_TN) if config.agents.dead == "relay" else alive_TN
    open_TNK, heard_TNK = (
        np.array([[getattr(seen, name)[0] for seen in step] for step in insights])
        & acts_TN[..., None]
        for name in ("open_EK", "heard_EK")
    )
    opponents = registry.opponents_of(config.env)
    last, spec = copies.last, copies.spec
    return Trace(
        env=config.env.name,
        num_agents=config.num_agents,
        seed=config.seed,
        opponent="" if opponents is None else opponents.names[opponents.in_turn(0)],
        offsets=run.rules.graph.offsets,
        scenes=tuple(copies.scenes),
        observations_TND=np.array(copies.observations),
        alive_TN=alive_TN,
        actions_TN=np.array(copies.actions),
        rewards_TN=np.array(copies.rewards),
        open_TNK=open_TNK,
        heard_TNK=heard_TNK,
        scores_TNK=_optional(insights, "scores_EK"),
        weights_TNL=_optional(insights, "weights_ET"),
        message_bytes=policy.spec.message * np.dtype(policy.spec.message_dtype).itemsize,
        ended=last is not None,
        won=last.won if last is not None and spec.can_be_won else None,
        metrics=dict(last.metrics) if last is not None else {},
    )


def _optional(insights: list[list[Insight]], name: str) -> FloatArray | None:
    """[T, N, …] what every agent has said, or none of them."""
    rows = [[getattr(seen, name) for seen in step] for step in insights]
    if not rows or any(row is None for step in rows for row in step):
        return None
    return np.array([[row[0] for row in step] for step in rows], dtype=np.float32)
