"""How the world runs episodes: all of the configuration that it needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from configs.schema import GateTiming
from envs.opponent_schedule import OpponentSchedule
from runtime.net.topology import Graph
from runtime.world.guide import Guide


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldRules:
    """How the world runs episodes."""

    gate_timing: GateTiming
    dead: Literal["silent", "relay"]
    train_steps: int
    """Environment steps of training copies until training ends; 0 only evaluates."""
    evaluation_interval: int
    """Training steps between evaluations; 0 evaluates only when told to."""
    evaluation_episodes: int
    epsilon: Callable[[int], float]
    """Exploration rate by training steps."""
    ships: Literal["training", "all", "none"]
    """Episodes that go to the learner (or recorder)."""
    updates_per_episode: float
    max_backlog: int
    """Updates the learner may owe before the world waits for it."""
    opponents: OpponentSchedule | None = None
    """Which opponent plays the other team when; None where there is no other team."""
    seed: int = 0
    """Root of the draws of opponents."""
    life: int = 0
    """How often the run has been resumed."""
    victims: tuple[int, ...] = ()
    """Agents to be killed for good in an evaluation."""
    graph: Graph | None = None
    """Edges that exist; None: the exponential graph."""
    moves: bool = False
    """In each step an agent may send to its neighbours of that step alone, as the environment says
    who they are."""
    guide: Guide | None = None
    """Plays some of the exploring steps of training."""
    asks: Literal["nobody", "training", "always"] = "nobody"
    """Where a guide in the learner's process chooses the actions: nowhere, in training, or in
    evaluations as well."""
    columns: tuple[str, ...] = ()
    """What the world records of every step beside actions and rewards (configs/columns.py)."""
    in_rounds: bool = False
    """Copies wait for each other: training episodes begin together, when all of the round before
    have ended, or, where rollouts have a fixed length, after an evaluation. Without a fixed length
    only then is there a moment at which agents can take up a new policy without changing it within
    an episode."""
    rollout_steps: int = 0
    """Steps of each copy after which a rollout ends, across the ends of episodes; evaluations and
    the end of training wait for that. 0: rollouts have no fixed length."""
    overlaps: bool = False
    """The world may play one rollout while the learner works off the one before."""
    kill_at: int = 0
    """Steps that all copies of that evaluation have played when the kill comes."""
