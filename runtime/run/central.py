"""A run in one process whose agents are computed in one place (agents/comm/centralised.py).

    World -> observations of all agents -> Centre (learner/central.py) -> actions -> World

Packets between world and agents are encoded and counted as in runtime/run/serial.py. No packet goes
from agent to agent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np

from agents.core import AgentCore
from agents.events import Command, Event
from agents.parameters import ParameterStore
from agents.rules import AgentRules
from agents.tally import Tally
from configs import streams
from configs.arrays import FloatArray
from configs.streams import Role
from envs.copies import EnvCopies
from runtime.net import wire
from runtime.net.topology import exponential
from runtime.run.serial import SerialRun
from runtime.world.rules import WorldRules


class Centre(Protocol):
    """All agents (learner/central.py, which needs torch)."""

    tallies: list[Tally]

    def act(self, seen: Sequence[wire.Observation]) -> list[list[Command]]:
        """What each agent wants done, by what each sees."""
        ...


OpenCentre = Callable[[AgentRules, ParameterStore, Sequence[np.random.Generator]], Centre]


@dataclass(slots=True)
class _Seat:
    """An agent as the run sees it: it keeps what it sees until all have seen."""

    tally: Tally
    waits_for_peers: bool = False
    tick: int = 0
    seen: wire.Observation | None = None

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, wire.PolicyDue):
            return []  # in one process it is there
        assert isinstance(event, wire.Observation), "nobody speaks to it but the world"
        self.tick, self.seen = event.tick, event
        return []


class CentralRun(SerialRun):
    """One centre around one world."""

    def __init__(
        self,
        copies: EnvCopies,
        rules: AgentRules,
        flat: FloatArray,
        world_rules: WorldRules,
        seed: int,
        open_centre: OpenCentre,
        *,
        life: int = 0,
        version: int = 1,
        env_steps: int = 0,
        episodes: int = 0,
    ) -> None:
        """Bring up world and centre; see `SerialRun`."""
        self._seats: list[_Seat] = []
        # The world's masks of edges stay empty, and the backbone's are narrow at any size.
        graph = exponential(rules.num_agents)
        super().__init__(
            copies,
            rules,
            flat,
            replace(world_rules, graph=graph),
            seed,
            life=life,
            version=version,
            env_steps=env_steps,
            episodes=episodes,
        )
        rngs = [
            streams.generator(seed, Role.AGENT, agent=agent, life=life, incarnation=0)
            for agent in range(rules.num_agents)
        ]
        self._centre = open_centre(rules, self.parameters, rngs)
        for seat, tally in zip(self._seats, self._centre.tallies, strict=True):
            seat.tally = tally

    def _new_agent(self, agent: int) -> AgentCore:
        seat = _Seat(Tally())
        self._seats.append(seat)
        return cast("AgentCore", seat)  # a run asks no more of an agent than a seat has

    def _let_deadlines_pass(self) -> bool:
        """Nothing is under way any more: all have seen, and the centre acts."""
        seen = [seat.seen for seat in self._seats if seat.seen is not None]
        assert len(seen) == len(self._seats), "the world tells all agents in the same tick"
        for seat in self._seats:
            seat.seen = None
        for agent, commands in enumerate(self._centre.act(seen)):
            self._from_agent(agent, commands)
        return False
