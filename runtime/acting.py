"""Act with a trained policy, without any process and without torch.

    load_policy(path) -> Policy -> team(N) -> act([N, D] observations) -> [N] actions

The agents of a team talk to each other as they would in processes: the same cores, and the same
rules of what is under way (runtime/run/serial.py). Nobody but the caller knows the environment.

Dimension key: N = agents, D = observation features.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agents import policy as policy_file
from agents.acting import acting_without_training
from agents.policy import PolicyFile, PolicySpec
from agents.rules import AgentRules
from configs.arrays import BoolArray, FloatArray
from configs.schema import RunConfig
from configs.shipped import policy_path
from envs.base import ActionArray, EnvSpec, Snapshot, Transition
from envs.copies import CopyStep
from envs.spaces import Box, Discrete
from runtime.run.serial import SerialRun
from runtime.world.rules import WorldRules

MOST_STEPS = 65_535
"""Of one episode."""


def load_policy(path: str | Path, env: str = "battle") -> "Policy":
    """Read a policy file.

    Args:
        path: of the file; or `shipped`, for the one that comes with an environment.
        env: which environment's, where the policy is a shipped one.

    Raises:
        PolicyFileError: it cannot be read, or is damaged.
        ValueError: no policy is shipped for this environment.
    """
    return Policy(policy_file.load_agents_policy(policy_path(str(path), env)))


class Policy:
    """A trained policy: all agents act by the same one."""

    def __init__(self, file: PolicyFile) -> None:
        self.file = file

    @property
    def spec(self) -> PolicySpec:
        """Dimensions: `observation_dim`, `num_actions` and those of the network."""
        return self.file.spec

    @property
    def trained(self) -> Mapping[str, str]:
        """What the file says about its training: env, agents, comm, algorithm, env_steps, …"""
        return self.file.trained

    def team(self, num_agents: int, *, seed: int = 0) -> "Team":
        """Agents that talk to each other, at the beginning of an episode.

        Args:
            num_agents: N, at least 2; not necessarily as many as the policy was trained with.
            seed: of draws, if there are any: greedy actions need none.

        Raises:
            ValueError: too few or too many agents for the policy's way to communicate.
        """
        return Team(self.file, num_agents, seed)

    def agent(self, *, seed: int = 0) -> "Agent":
        """One agent on its own, at the beginning of an episode. It hears nobody."""
        return Agent(self.file, seed)


class Team:
    """N agents in this process."""

    def __init__(self, file: PolicyFile, num_agents: int, seed: int = 0) -> None:
        self.num_agents = num_agents
        self.observation_dim = file.spec.observation_dim
        self._places = _Places(file.spec, num_agents)
        rules = _rules_of_agents(file, num_agents)
        self._comm, self._moves = rules.comm, rules.moves
        self._run = SerialRun(
            self._places,
            rules,
            file.flat,
            _rules_of_world(rules),
            seed,
            version=max(file.version, 1),
        )
        self._step = 0
        self.reset()

    def reset(self) -> None:
        """Begin the next episode: agents forget what they have seen and heard."""
        self._step = 0
        self._run.world.evaluate(1)
        self._run.results.clear()

    def act(
        self,
        observations_ND: ArrayLike,
        alive_N: ArrayLike | None = None,
        neighbours_NN: ArrayLike | None = None,
    ) -> NDArray[Any]:
        """Let all agents take one step: hear what was said in the last one, speak, and act.

        Args:
            observations_ND: what each agent sees now.
            alive_N: agents that live; None: all. The dead are silent and do nothing.
            neighbours_NN: who is whose neighbour now, symmetric, for a policy that speaks to
                neighbours alone (envs/neighbours.py makes it of positions).

        Returns:
            [N] greedy actions, or [N, n] where real numbers make up an action; 0 for the dead.

        Raises:
            ValueError: arrays of another shape, no neighbours where the policy goes by them, or an
                episode of more than MOST_STEPS steps.
        """
        observations = np.asarray(observations_ND, dtype=np.float32)
        expected = (self.num_agents, self.observation_dim)
        if observations.shape != expected:
            raise ValueError(f"a team of this policy sees {expected}, got {observations.shape}")
        alive: BoolArray = np.ones(self.num_agents, dtype=np.bool_)
        if alive_N is not None:
            alive = np.asarray(alive_N, dtype=np.bool_)
        if alive.shape != (self.num_agents,):
            raise ValueError(f"{self.num_agents} agents live or not, got shape {alive.shape}")
        if not np.isfinite(observations).all():
            raise ValueError("an observation has numbers that are not finite")
        neighbours = self._checked_neighbours(neighbours_NN)
        if self._step >= MOST_STEPS:
            raise ValueError(f"an episode has at most {MOST_STEPS} steps: begin the next, reset()")
        self._step += 1
        self._places.see(self._run, observations, alive, neighbours)
        self._run.tick()
        actions_N = self._places.actions_N.copy()
        actions_N[~alive] = 0
        return actions_N

    def _checked_neighbours(self, neighbours_NN: ArrayLike | None) -> BoolArray | None:
        if not self._moves:
            return None
        if neighbours_NN is None:
            raise ValueError(f"comm {self._comm} speaks to neighbours: say who they are")
        neighbours: BoolArray = np.asarray(neighbours_NN, dtype=np.bool_)
        expected = (self.num_agents, self.num_agents)
        if neighbours.shape != expected:
            raise ValueError(f"neighbours are pairs {expected}, got shape {neighbours.shape}")
        if (neighbours != neighbours.T).any() or neighbours.diagonal().any():
            raise ValueError("neighbours are symmetric, and nobody is its own")
        return neighbours

    @property
    def out_degree(self) -> float:
        """Edges that a living agent has used in a step, on average since the team was made."""
        tallies = [core.tally for core in self._run.agents]
        steps = sum(tally.agent_steps for tally in tallies)
        return sum(tally.edges_open for tally in tallies) / steps if steps else 0.0


class Agent:
    """One agent that hears nobody: a team in which the other one is dead."""

    def __init__(self, file: PolicyFile, seed: int = 0) -> None:
        self._team = Team(file, 2, seed)

    def reset(self) -> None:
        """Begin the next episode."""
        self._team.reset()

    def act(self, observation_D: ArrayLike) -> int:
        """The greedy action in what the agent sees now.

        Raises:
            ValueError: as `Team.act`; or real numbers make up an action.
        """
        action = self._answer(observation_D)
        if action.ndim:
            raise ValueError(f"an action of this policy is {len(action)} real numbers: act_reals")
        return int(action)

    def act_reals(self, observation_D: ArrayLike) -> NDArray[np.float32]:
        """[n] as `act`, of a policy whose actions are made up of real numbers.

        Raises:
            ValueError: as `Team.act`; or actions are chosen from a list.
        """
        action = self._answer(observation_D)
        if not action.ndim:
            raise ValueError("actions of this policy are chosen from a list: act")
        return action

    def _answer(self, observation_D: ArrayLike) -> NDArray[Any]:
        observation = np.asarray(observation_D, dtype=np.float32)
        dim = self._team.observation_dim
        if observation.shape != (dim,):
            raise ValueError(f"an agent sees {dim} numbers, got shape {observation.shape}")
        pair = np.stack([observation, np.zeros_like(observation)])
        nobody = np.zeros((2, 2), dtype=np.bool_)
        return np.asarray(self._team.act(pair, [True, False], nobody)[0])


class _Places:
    """The copy of an environment that is elsewhere: it sees what it is handed, and keeps what was
    done.
    """

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        self.spec = EnvSpec(
            name="elsewhere",
            num_agents=num_agents,
            observation_shape=(spec.observation_dim,),
            observation_dtype="float32",
            actions=Discrete(spec.num_actions) if spec.bounds is None else Box(*spec.bounds),
            state_dim=1,
            episode_limit=MOST_STEPS,
        )
        self.actions_N: NDArray[Any] = np.zeros(num_agents, dtype=np.int64)
        nothing = np.zeros((num_agents, spec.observation_dim), dtype=np.float32)
        nobody: BoolArray = np.zeros((num_agents, num_agents), dtype=np.bool_)
        begins = self._snapshot(nothing, np.ones(num_agents, dtype=np.bool_))
        self._now = begins._replace(neighbours_NN=nobody)

    def see(
        self,
        run: SerialRun,
        observations_ND: FloatArray,
        alive_N: BoolArray,
        neighbours_NN: BoolArray | None,
    ) -> None:
        """What is there before the next step."""
        seen = self._snapshot(observations_ND * alive_N[:, None], alive_N)
        if neighbours_NN is not None:
            neighbours_NN = neighbours_NN & alive_N & alive_N[:, None]
        self._now = seen._replace(neighbours_NN=neighbours_NN)
        run.world.episodes.now = (self._now,)

    def reset(self) -> tuple[Snapshot, ...]:
        return (self._now,)

    def step(
        self,
        actions_EN: ActionArray,
        opponents_E: NDArray[Any] | None = None,
        rests_E: BoolArray | None = None,
    ) -> tuple[CopyStep, ...]:
        del opponents_E, rests_E
        self.actions_N = actions_EN[0].copy()
        rewards_N = np.zeros(self.spec.num_agents, dtype=np.float32)
        still = Transition(self._now, rewards_N, terminated=False, truncated=False, won=False)
        return (CopyStep(still, self._now),)

    def close(self) -> None:
        """Nothing is ours to close."""

    def _snapshot(self, observations_ND: FloatArray, alive_N: BoolArray) -> Snapshot:
        return Snapshot(observations_ND, np.zeros(1, dtype=np.float32), alive_N)


def _setting(file: PolicyFile, name: str) -> Any:
    """What the policy was trained with, or the default where its file does not say."""
    default = RunConfig()
    usual = {
        "comm": file.spec.scheme,
        "gate_timing": default.gate.timing,
        "gate_mode": default.gate.mode,
        "dead": default.agents.dead,
    }
    return file.trained.get(name, usual[name])


def _rules_of_agents(file: PolicyFile, num_agents: int) -> AgentRules:
    return AgentRules(
        num_agents=num_agents,
        copies=1,
        spec=file.spec,
        comm=_setting(file, "comm"),
        comm_options=file.spec.scheme_options,
        gate_timing=_setting(file, "gate_timing"),
        gate_mode=_setting(file, "gate_mode"),
        gate_budget=file.gate_budget,
        dead=_setting(file, "dead"),
        ships="none",
        acting=acting_without_training(file.spec.bounds),
    )


def _rules_of_world(agents: AgentRules) -> WorldRules:
    return WorldRules(
        graph=agents.graph,
        moves=agents.moves,
        gate_timing=agents.gate_timing,
        dead=agents.dead,
        train_steps=0,
        evaluation_interval=0,
        evaluation_episodes=0,
        epsilon=lambda _: 0.0,
        ships="none",
        updates_per_episode=0.0,
        max_backlog=0,
    )
