"""All agents of a run in one place, through the unroll that trains them: for schemes that no agent
can run on its own (agents/comm/centralised.py).

    observations of all agents -> unroll (one step, carry) -> values -> each agent's actor, recorder

To the world they are what agent processes are: they answer every observation with an action, and
ship what they have recorded. Nothing goes along edges, so no mask names any.

Dimension key: E = copies, N = agents, D = observation features, A = actions, K = edges.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from agents.acting import allowed_actions, make_actor
from agents.events import Command, ToWorld
from agents.parameters import ParameterStore
from agents.participation import Participants, Participation
from agents.recorder import Recorders
from agents.rules import AgentRules
from agents.tally import Tally
from configs.arrays import BoolArray, FloatArray
from configs.columns import GATES, Q_VALUES
from configs.schema import RunConfig
from configs.streams import Role
from learner import noise
from learner.comm.gates import GateRule
from learner.comm.unroll import Carry, UnrollInput, UnrollOutput, begun_lives, unroll
from learner.network import PolicyNetwork
from runtime.net import wire
from runtime.net.topology import exponential


class CentralAgents:
    """N agents over E copies."""

    def __init__(
        self,
        config: RunConfig,
        rules: AgentRules,
        parameters: ParameterStore,
        rngs: Sequence[np.random.Generator],
    ) -> None:
        """
        Args:
            parameters: looked at in every step.
            rngs: of exploration, each agent's own.
        """
        spec, copies = rules.spec, rules.copies
        self.tallies = [Tally() for _ in rngs]
        self._rules, self._parameters = rules, parameters
        self._network = PolicyNetwork(spec, rules.num_agents)
        self._version: int | None = None
        self._rule = GateRule.of(config.comm, config.gate)
        self._noise = noise.generator(config.seed, Role.CENTRE, life=config.life)
        self._carry = Carry.begin(self._network, copies)
        self._participants = Participants(copies, relays=rules.dead == "relay")
        self._actors = [
            make_actor(rules.acting, spec.num_actions, spec.bounds, rng) for rng in rngs
        ]
        self._recorders = [
            Recorders(agent, copies, rules.ships, rules.columns, comes_back=rules.comes_back)
            for agent in range(rules.num_agents)
        ]
        self._lived_EN: BoolArray = np.ones((copies, rules.num_agents), dtype=np.bool_)
        # The world's masks are those of the backbone, and stay empty.
        self._no_edges = exponential(rules.num_agents).edge_bits.zeros(copies)
        self._no_copy = np.zeros((copies + 7) // 8, dtype=np.uint8)

    def act(self, seen: Sequence[wire.Observation]) -> list[list[Command]]:
        """Take one step.

        Args:
            seen: of all agents, in their order.

        Returns:
            What each of them wants done.
        """
        parts = [self._participants.of(now.flags) for now in seen]
        takes_part = [part for part in parts if part is not None]
        assert len(takes_part) == len(seen)
        first_E: BoolArray = seen[0].steps == 0
        self._adopt(seen[0], takes_part[0])
        output = self._unrolled(seen, takes_part, first_E)
        self._carry = output.carry
        q_ENA: FloatArray = output.q_TBNA[0].numpy()
        degrees_EN = output.gates_TBNK[0].sum(-1).numpy()
        return [
            self._answer(agent, now, part, q_ENA[:, agent], degrees_EN[:, agent])
            for agent, (now, part) in enumerate(zip(seen, takes_part, strict=True))
        ]

    def _adopt(self, now: wire.Observation, takes_part: Participation) -> None:
        """Take over a new version, but for an on-policy algorithm in an episode of training."""
        is_new = self._version != self._parameters.version
        if is_new and self._rules.steady and self._version is not None:
            is_new = not (takes_part.explores_E & (now.steps > 0)).any()
        if is_new:
            self._network.load_flat(self._parameters.flat)
            self._version = self._parameters.version

    def _unrolled(
        self,
        seen: Sequence[wire.Observation],
        takes_part: Sequence[Participation],
        first_E: BoolArray,
    ) -> UnrollOutput:
        rules = self._rules
        shape = (rules.copies, rules.num_agents, rules.spec.observation_dim)
        observations_END: FloatArray = np.zeros(shape, dtype=np.float32)
        for agent, (now, part) in enumerate(zip(seen, takes_part, strict=True)):
            observations_END[part.alive_E, agent] = now.observations
        alive_EN = np.stack([part.alive_E for part in takes_part], axis=1)
        active_EN = np.stack([part.active_E for part in takes_part], axis=1)
        rule = self._rule
        if takes_part[0].any_explores:
            explores_B = torch.tensor(takes_part[0].explores_E)
            rule = replace(rule, noise=self._noise, noisy_B=explores_B)
        begins_TBN: Tensor | None = None
        if rules.comes_back:
            lived_EN = self._lived_EN | first_E[:, None]
            begins_TBN = begun_lives(torch.tensor(alive_EN)[None], torch.tensor(lived_EN))
            self._lived_EN = alive_EN
        window = UnrollInput(
            torch.tensor(observations_END)[None],
            torch.tensor(active_EN)[None],
            begins_TBN=begins_TBN,
        )
        with torch.no_grad():
            carry = self._carry.restart(torch.tensor(first_E))
            return unroll(self._network, window, rule, carry)

    def _answer(
        self,
        agent: int,
        now: wire.Observation,
        takes_part: Participation,
        q_EA: FloatArray,
        degrees_E: FloatArray,
    ) -> list[Command]:
        """What `AgentCore` does once it has its values."""
        recorders, actor, tally = self._recorders[agent], self._actors[agent], self.tallies[agent]
        assert self._version is not None
        commands = recorders.turn(now, takes_part)
        allowed_EA = allowed_actions(now, takes_part, self._rules.spec.num_actions)
        actions = actor.choose(q_EA, now, takes_part, allowed_EA)
        computed = {GATES.name: self._no_edges, Q_VALUES.name: q_EA, **actor.computed}
        recorders.record(now, takes_part, actions, self._version, computed)
        tally.agent_steps += takes_part.num_alive
        tally.edge_slots += takes_part.num_alive * (self._rules.num_agents - 1)
        tally.edges_open += int(degrees_E[takes_part.alive_E].sum())
        action = wire.Action(now.tick, self._version, actions, self._no_edges, self._no_copy)
        return [*commands, ToWorld(action)]
