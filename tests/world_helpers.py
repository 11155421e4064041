"""An environment that follows a script, and a world around it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray, IntArray
from configs.schema import GateTiming
from envs.base import EnvSpec, Snapshot, Transition
from envs.copies import Copies
from envs.neighbours import neighbours
from envs.spaces import Discrete
from runtime.net import wire
from runtime.world.commands import ToAgent, ToLauncher, ToLearner, WorldCommand
from runtime.world.lockstep import World
from runtime.world.rules import WorldRules

NUM_AGENTS = 6
NOOP = 3


class ScriptedEnv:
    """Everything that happens is written down beforehand.

    An observation is [agent, step, episode of this environment], a state is [step], the reward of a
    living agent is its action.
    """

    def __init__(
        self,
        *lengths: int,
        num_agents: int = NUM_AGENTS,
        deaths: Mapping[int, Sequence[int]] | None = None,
        terminates: bool = True,
        won: bool = False,
        roams: bool = False,
    ) -> None:
        """Play episodes of these lengths, over and over.

        Args:
            roams: the last two numbers of an observation are a place instead, another in each step,
                and so agents have neighbours.
            deaths: agents that die with a step of every episode, by the number of that step.
            terminates: whether an episode ends because its task does, or because time runs out.
        """
        self._lengths = lengths or (3,)
        self._num_agents = num_agents
        self._deaths = deaths or {}
        self._terminates, self._won, self._roams = terminates, won, roams
        self._episode = -1
        self._step = 0
        self._alive_N: BoolArray = np.ones(num_agents, dtype=np.bool_)
        self.played: list[list[int]] = []
        """Actions of every step."""

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            name="scripted",
            num_agents=self._num_agents,
            observation_shape=(3,),
            actions=Discrete(4),
            state_dim=1,
            episode_limit=1000,
            noop_action=NOOP,
            has_position=self._roams,
            has_neighbours=self._roams,
        )

    def reset(self, seed: int) -> Snapshot:
        self._episode += 1
        self._step = 0
        self._alive_N = np.ones(self._num_agents, dtype=np.bool_)
        return self._snapshot()

    def step(self, actions_N: IntArray) -> Transition:
        self.played.append(actions_N.tolist())
        rewards_N = np.where(self._alive_N, actions_N, 0).astype(np.float32)
        self._alive_N = self._alive_N.copy()
        self._alive_N[list(self._deaths.get(self._step, ()))] = False
        self._step += 1
        over = self._step == self._lengths[self._episode % len(self._lengths)]
        return Transition(
            after=self._snapshot(),
            rewards_N=rewards_N,
            terminated=over and self._terminates,
            truncated=over and not self._terminates,
            won=over and self._won,
        )

    def close(self) -> None:
        """Nothing to give back."""

    def _snapshot(self) -> Snapshot:
        agents_N = np.arange(self._num_agents)
        columns = (agents_N, np.full_like(agents_N, self._step), agents_N * 0 + self._episode)
        observations_ND = np.stack(columns, axis=1).astype(np.float16)
        if self._roams:
            rng = np.random.default_rng((self._episode, self._step))
            observations_ND[:, 1:] = rng.uniform(-1.0, 1.0, (self._num_agents, 2))
        return Snapshot(
            observations_ND=observations_ND * self._alive_N[:, None],
            state_S=np.array([self._step], dtype=np.float32),
            alive_N=self._alive_N,
            neighbours_NN=(
                neighbours_by_place(observations_ND, self._alive_N) if self._roams else None
            ),
        )


def neighbours_by_place(observations_ND: NDArray[Any], alive_N: BoolArray) -> BoolArray:
    """[N, N] of agents that roam, or of any whose observations end with their places."""
    living_L = np.flatnonzero(alive_N)
    cells_L2 = (observations_ND[living_L, -2:].astype(np.float64) * 100).round().astype(np.int64)
    return neighbours(len(alive_N), living_L, cells_L2)


def make_rules(
    *,
    timing: GateTiming = "causal",
    relay: bool = False,
    train_steps: int = 1000,
    interval: int = 0,
    episodes: int = 0,
    epsilon: Callable[[int], float] = lambda _: 0.5,
    ships: str = "all",
    updates_per_episode: float = 1.0,
    max_backlog: int = 2,
) -> WorldRules:
    assert ships in ("training", "all", "none")
    return WorldRules(
        gate_timing=timing,
        dead="relay" if relay else "silent",
        train_steps=train_steps,
        evaluation_interval=interval,
        evaluation_episodes=episodes,
        epsilon=epsilon,
        ships=ships,
        updates_per_episode=updates_per_episode,
        max_backlog=max_backlog,
    )


def make_world(
    *envs: ScriptedEnv,
    rules: WorldRules | None = None,
    up: Sequence[int] | None = None,
    env_steps: int = 0,
    episodes: int = 0,
) -> World:
    """A world whose agents are all up, or those given."""
    envs = envs or (ScriptedEnv(),)
    world = World(
        Copies(envs, seed=0),
        len(envs),
        rules or make_rules(),
        env_steps=env_steps,
        episodes=episodes,
    )
    for agent in range(envs[0].spec.num_agents) if up is None else up:
        world.agent_state(agent, up=True)
    return world


def action(
    tick: int,
    actions: int | Sequence[int] = 0,
    masks: int | Sequence[int] = 0,
    *,
    copies: int = 1,
    version: int = 1,
    says: bool | Sequence[bool] = True,
) -> wire.Action:
    return wire.Action(
        tick,
        version,
        np.array(np.broadcast_to(np.array(actions), copies), dtype=np.uint8),
        np.array(np.broadcast_to(np.array(masks), copies), dtype=np.uint16),
        np.packbits(np.broadcast_to(np.array(says), copies), bitorder="little"),
    )


def gates(tick: int, masks: int | Sequence[int] = 0, *, copies: int = 1) -> wire.Gates:
    return wire.Gates(tick, np.array(np.broadcast_to(np.array(masks), copies), dtype=np.uint16))


def answer(
    world: World,
    *,
    copies: int = 1,
    actions: Mapping[int, int | Sequence[int]] | None = None,
    masks: Mapping[int, int | Sequence[int]] | None = None,
    silent: Sequence[int] = (),
) -> list[WorldCommand]:
    """Every agent that is waited for acts, but not the silent ones; what the world says to it."""
    commands: list[WorldCommand] = []
    for agent in world.missing:
        if agent not in silent:
            what = (actions or {}).get(agent, 0)
            packet = action(world.tick, what, (masks or {}).get(agent, 0), copies=copies)
            commands += world.action(agent, packet)
    return commands


def play(world: World, ticks: int = 1, *, copies: int = 1) -> list[WorldCommand]:
    """So many causal ticks in which everybody plays 0; all that the world says but observations."""
    commands: list[WorldCommand] = []
    for _ in range(ticks):
        world.begin_tick()
        commands += answer(world, copies=copies)
    return commands


def play_out(world: World, *, copies: int = 1, at_most: int = 1000) -> list[WorldCommand]:
    """Until no tick may begin."""
    commands: list[WorldCommand] = []
    while world.may_tick:
        at_most -= 1
        assert at_most, "the world plays for ever"
        commands += play(world, copies=copies)
    return commands


# --- what a world says ----------------------------------------------------------------------------


def observations_of(commands: list[WorldCommand]) -> dict[int, wire.Observation]:
    """Observations by agent."""
    return {
        command.agent: command.packet
        for command in commands
        if isinstance(command, ToAgent) and isinstance(command.packet, wire.Observation)
    }


def in_masks_of(commands: list[WorldCommand]) -> dict[int, list[int]]:
    """paper timing: [E] in-masks by agent."""
    return {
        command.agent: command.packet.in_masks.tolist()
        for command in commands
        if isinstance(command, ToAgent) and isinstance(command.packet, wire.InMask)
    }


def results_of(commands: list[WorldCommand]) -> list[wire.EpisodeResult]:
    return [command.packet for command in commands if isinstance(command, ToLauncher)]


def records_of(commands: list[WorldCommand]) -> list[wire.EpisodeRecord]:
    return [command.packet for command in commands if isinstance(command, ToLearner)]


def record_of(commands: list[WorldCommand]) -> wire.EpisodeRecord:
    (record,) = records_of(commands)
    return record


def result_of(commands: list[WorldCommand]) -> wire.EpisodeResult:
    (result,) = results_of(commands)
    return result


def explores(observation: wire.Observation) -> list[bool]:
    """[E] whether a copy trains."""
    return ((observation.flags & wire.EXPLORE) != 0).tolist()


def lives(observation: wire.Observation) -> list[bool]:
    """[E] whether the agent lives in a copy."""
    return ((observation.flags & wire.ALIVE) != 0).tolist()
