"""A whole run in one process: real agent cores and a real world, packets carried by a queue.

It is the debugger's door and one side of the tests that compare: the same cores, without sockets,
clocks or processes. Every packet is encoded and decoded on its way, as on a socket. Deadlines pass
when nothing is under way any more: first those of agents that wait for peers, then the world's.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from agents.core import AgentCore, AgentRules
from agents.events import (
    Command,
    Dropped,
    Greeted,
    PeersLate,
    SendBeacon,
    SendMessage,
    ToLearner,
    ToNode,
    ToWorld,
)
from agents.parameters import ParameterStore
from configs import streams
from configs.arrays import FloatArray
from configs.streams import Role
from envs.copies import Copies
from runtime.net import topology, wire
from runtime.world import commands as world
from runtime.world.episodes import Phase
from runtime.world.lockstep import World
from runtime.world.rules import WorldRules

Delivery = tuple[int, wire.Packet]


@dataclass
class SerialRun:
    """N agent cores around one world."""

    copies: Copies
    rules: AgentRules
    flat: FloatArray
    world_rules: WorldRules
    seed: int = 0
    lose: Callable[[int, wire.Packet], bool] = field(default=lambda _agent, _packet: False)
    """Whether a packet to an agent is lost on the way."""

    def __post_init__(self) -> None:
        num_agents = self.rules.num_agents
        self._incarnations = [0] * num_agents
        self.agents = [self._new_agent(agent) for agent in range(num_agents)]
        self.world = World(
            self.copies, self.rules.copies, self.world_rules, env_steps=0, episodes=0
        )
        self.trajectories: list[wire.Trajectory] = []
        self.records: list[wire.EpisodeRecord] = []
        self.results: list[wire.EpisodeResult] = []
        self.dropped: list[str] = []
        self._queue: deque[Delivery] = deque()
        for agent in range(num_agents):
            self._from_world(self.world.agent_state(agent, up=True))

    def evaluate(self, episodes: int) -> None:
        self.world.evaluate(episodes)
        self.run()

    def run(self) -> None:
        """Play until the world has nothing more to play, then say farewell."""
        while self.world.phase not in (Phase.DONE, Phase.TRAINED):
            self.tick()
        self._from_world(self.world.farewell())
        self._deliver()

    def tick(self) -> None:
        """Play one step of all copies."""
        assert self.world.may_tick
        self._from_world(self.world.begin_tick())
        self._deliver()

    def restart(self, agent: int) -> None:
        """Between two ticks, an agent dies and comes back knowing nothing."""
        self._from_world(self.world.agent_state(agent, up=False))
        self._incarnations[agent] += 1
        self.agents[agent] = self._new_agent(agent)
        for peer in topology.out_neighbours(agent, self.rules.num_agents):
            self._from_agent(peer, self.agents[peer].handle(Greeted()))
        self._from_world(self.world.agent_state(agent, up=True))

    def _new_agent(self, agent: int) -> AgentCore:
        incarnation = self._incarnations[agent]
        rng = streams.generator(self.seed, Role.AGENT, agent=agent, life=0, incarnation=incarnation)
        return AgentCore(agent, self.rules, ParameterStore(self.flat, 1), rng)

    def _deliver(self) -> None:
        while self._queue or self._let_deadlines_pass():
            agent, packet = self._queue.popleft()
            if self.lose(agent, packet):
                continue
            event = wire.decode(wire.encode(packet))
            assert isinstance(event, (wire.Observation, wire.InMask, wire.Message, wire.Beacon))
            self._from_agent(agent, self.agents[agent].handle(event))

    def _let_deadlines_pass(self) -> bool:
        """Nothing is under way any more: whoever still waits has met its deadline.

        Returns whether that has set anything in motion.
        """
        for agent, core in enumerate(self.agents):
            if core.waits_for_peers:
                self._from_agent(agent, core.handle(PeersLate()))
        if not self._queue and self.world.waits_for_agents:
            self._from_world(self.world.deadline())
        return bool(self._queue)

    def _from_world(self, commands: list[world.WorldCommand]) -> None:
        for command in commands:
            match command:
                case world.ToAgent():
                    self._queue.append((command.agent, command.packet))
                case world.ToLearner():
                    self.records.append(command.packet)
                case world.ToLauncher():
                    self.results.append(command.packet)
                case world.Kill():
                    raise AssertionError("there are no processes here to kill")
                case world.Refused():
                    self.dropped.append(command.reason)

    def _from_agent(self, agent: int, commands: list[Command]) -> None:
        num_agents = self.rules.num_agents
        for command in commands:
            match command:
                case SendMessage():
                    message = wire.Message(agent, command.tick, 0, command.copies, command.rows)
                    outs = topology.out_neighbours(agent, num_agents)
                    self._queue.extend((outs[k], message) for k in command.edges)
                case SendBeacon():
                    beacon = wire.Beacon(agent, command.tick, 0, command.copies, command.rows)
                    ins = topology.in_neighbours(agent, num_agents)
                    self._queue.extend((peer, beacon) for peer in ins)
                case ToWorld(packet=wire.Gates() as gates):
                    self._from_world(self.world.gates(agent, gates))
                case ToWorld(packet=wire.Action() as action):
                    self._from_world(self.world.action(agent, action))
                case ToLearner():
                    self.trajectories.append(command.packet)
                case Dropped():
                    self.dropped.append(command.reason)
                case ToNode() | ToWorld():
                    pass
