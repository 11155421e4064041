"""A population of another size that learns beside the run's agents and shares their policy.

    owed -> catch_up: Copies -> observations -> unroll (one step, carry) -> exploring actions
                                                            episodes -> replay of this population

A policy's parameters do not depend on the number of agents, so one learner can train it for several
at once (`learner.also_agents`). The run's own agents are processes; the others are played here, in
the learner, through the unroll that trains, with the exploration and the noise of the gates that
processes would have. What real processes do at such a size an evaluation tells.

Dimension key: E = copies, T = steps, N = agents, A = actions, K = out-edges.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.comm.graphs import graph_of
from configs import streams
from configs.arrays import BoolArray
from configs.columns import ACTION_MASK, GATES
from configs.schedule import linear
from configs.schema import RunConfig
from configs.streams import Role
from envs import registry
from envs.base import Snapshot
from envs.copies import CopyStep
from learner import noise
from learner.comm.carry import Carry, UnrollInput
from learner.comm.edges import neighbours_seen
from learner.comm.gates import GateRule
from learner.comm.unroll import begun_lives, unroll
from learner.experience.dual import make_replay
from learner.experience.episode import Dimensions, Episode
from learner.network import PolicyNetwork


class Population:
    """Copies of the run's environment with another number of agents."""

    def __init__(self, config: RunConfig, num_agents: int, device: torch.device) -> None:
        """Nothing is played yet.

        Args:
            device: where the policy computes.
        """
        role, life = Role.POPULATION, config.life
        self._config = config
        self._rng = streams.generator(config.seed, role, agents=num_agents, life=life)
        seed = streams.number(config.seed, role, agents=num_agents, life=life)
        self._copies = registry.make_copies(config.env, num_agents, seed, life=life)
        self._opponents = registry.opponents_of(config.env)
        self._graph = graph_of(config.comm, config.comm_options, num_agents)
        self._dimensions = Dimensions.of(self._copies.spec, graph=self._graph)
        agents = config.agents
        self._epsilon = linear(agents.epsilon_start, agents.epsilon_end, agents.epsilon_steps)
        self._carry: Carry | None = None
        """Before the first step there is none."""
        self._now: tuple[Snapshot, ...] = ()
        self._current: list[_Recording] = []
        self._lived_EN = np.ones((config.env.copies, num_agents), dtype=np.bool_)
        self._plays_E = np.zeros(config.env.copies, dtype=np.int64)
        self.num_agents = num_agents
        self.noise = noise.generator(config.seed, role, device, agents=num_agents, life=life)
        """Of its gates while it plays."""
        self.replay = make_replay(config.learner)
        self.owed = 0
        """Episodes that the run's agents have played more than this population."""

    def catch_up(
        self,
        policy: PolicyNetwork,
        rule: GateRule,
        env_steps: int,
        between_steps: Callable[[], None] | None = None,
    ) -> None:
        """Play what is owed, and as many episodes as an update needs.

        Args:
            policy: of the run, of whatever size.
            rule: how gates are decided while exploring.
            env_steps: training steps of the run, which exploration and opponents follow.
        """
        network = policy.of_size(self.num_agents)
        if self._carry is None:
            self._begin(network, env_steps)
        while self.owed > 0 or len(self.replay) < self._config.learner.learning_starts:
            if between_steps is not None:
                between_steps()
            self._step(network, rule, env_steps)

    def _begin(self, network: PolicyNetwork, env_steps: int) -> None:
        self._now = self._copies.reset()
        self._carry = Carry.begin(network, len(self._now))
        self._current = [_Recording(first) for first in self._now]
        for copy in range(len(self._now)):
            self._plays_E[copy] = self._opponent(env_steps)

    def _opponent(self, env_steps: int) -> int:
        return 0 if self._opponents is None else self._opponents.draw(env_steps, self._rng.random())

    @torch.no_grad()
    def _step(self, network: PolicyNetwork, rule: GateRule, env_steps: int) -> None:
        assert self._carry is not None
        spec = self._copies.spec
        alive_EN = np.array([snapshot.alive_N for snapshot in self._now])
        output = unroll(network, self._window(network, alive_EN), rule, self._carry)
        actions_EN = self._explore(output.q_TBNA[0], alive_EN, self._epsilon(env_steps))
        open_ENK: BoolArray = (output.gates_TBNK[0] > 0.0).cpu().numpy() & alive_EN[..., None]
        bits = self._graph.edge_bits
        gates_EN = bits.pack(open_ENK) if self._graph.wired else bits.zeros(*alive_EN.shape)
        played_EN = np.where(alive_EN, actions_EN, spec.noop_action)
        steps = self._copies.step(played_EN, self._plays_E)
        ended_E = np.zeros(len(steps), dtype=np.bool_)
        for copy, step in enumerate(steps):
            recording = self._current[copy]
            actions_N = np.where(alive_EN[copy], actions_EN[copy], 0)
            recording.add(actions_N, gates_EN[copy], step)
            ended_E[copy] = step.transition.terminated or step.transition.truncated
            if ended_E[copy]:
                self.replay.add(recording.episode(self._dimensions, env_steps))
                self.owed -= 1
                self._current[copy] = _Recording(step.now)
                self._plays_E[copy] = self._opponent(env_steps)
        self._now = tuple(step.now for step in steps)
        self._lived_EN = alive_EN | ended_E[:, None]
        device = output.q_TBNA.device
        acted_EN = np.where(alive_EN, actions_EN, 0)
        carry = output.carry
        if network.scheme.says_actions:
            carry = carry.after_acting(network, torch.tensor(acted_EN, device=device))
        self._carry = carry.restart(torch.tensor(ended_E, device=device))

    def _window(self, network: PolicyNetwork, alive_EN: NDArray[np.bool_]) -> UnrollInput:
        device = next(network.parameters()).device
        observations = np.array([snapshot.observations_ND for snapshot in self._now])
        seen: Tensor = torch.tensor(observations, device=device).float()
        alive = torch.tensor(alive_EN, device=device)
        relays = self._config.agents.dead == "relay"
        takes_part = torch.ones_like(alive) if relays else alive
        window = UnrollInput(
            seen.unsqueeze(0),
            takes_part.unsqueeze(0),
            neighbours_TBNK=neighbours_seen(network.scheme, self._now, device),
        )
        if not self._copies.spec.comes_back:
            return window
        lived = torch.tensor(self._lived_EN, device=device)
        return replace(window, begins_TBN=begun_lives(alive[None], lived))

    def _explore(
        self, q_ENA: Tensor, alive_EN: NDArray[np.bool_], epsilon: float
    ) -> NDArray[np.int64]:
        """[E, N] the best of the actions that are allowed, and now and then any of them."""
        values_ENA: NDArray[np.float32] = q_ENA.cpu().numpy()
        chances_ENA = self._rng.random(values_ENA.shape)
        if self._now[0].action_masks_NA is not None:
            masks_ENA = np.array([snapshot.action_masks_NA for snapshot in self._now])
            values_ENA[~masks_ENA] = -np.inf
            chances_ENA[~masks_ENA] = -1.0
        actions_EN = values_ENA.argmax(-1)
        explores_EN = self._rng.random(alive_EN.shape) < epsilon
        actions_EN[explores_EN] = chances_ENA.argmax(-1)[explores_EN]
        return actions_EN


class _Recording:
    """One copy's episode in progress."""

    def __init__(self, first: Snapshot) -> None:
        self._moments = [first]
        self._actions: list[NDArray[np.int64]] = []
        self._gates: list[NDArray[Any]] = []
        self._rewards: list[NDArray[np.float32]] = []
        self._terminated = False

    def add(self, actions_N: NDArray[np.int64], gates_N: NDArray[Any], step: CopyStep) -> None:
        self._actions.append(actions_N)
        self._gates.append(gates_N)
        self._rewards.append(step.transition.rewards_N)
        self._moments.append(step.transition.after)
        self._terminated = step.transition.terminated

    def episode(self, dimensions: Dimensions, env_steps: int) -> Episode:
        """The whole episode, as agents and world would have recorded it."""
        moments = self._moments
        columns = {GATES.name: np.array(self._gates)}
        if moments[0].action_masks_NA is not None:
            masks = [moment.action_masks_NA for moment in moments]
            columns[ACTION_MASK.name] = np.array(masks, dtype=np.uint8)
        versions_N = np.zeros(dimensions.num_agents, dtype=np.uint32)
        return Episode(
            dimensions=dimensions,
            number=0,
            env_steps=env_steps,
            observations=np.array([moment.observations_ND for moment in moments]),
            actions=np.array(self._actions),
            rewards=np.array(self._rewards, dtype=np.float32),
            states=np.array([moment.state_S for moment in moments], dtype=np.float32),
            alive=np.array([moment.alive_N for moment in moments]),
            terminated=self._terminated,
            columns=columns,
            first_versions=versions_N,
            last_versions=versions_N,
        )
