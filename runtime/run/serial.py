"""Agents and world in one process: real cores, and packets carried by a queue instead of sockets.

    World ⇄ queue ⇄ AgentCore × N          trajectories, records, results: for the caller to take

It is the debugger's door (`--serial`), and one side of the tests that compare. No socket, clock or
process is here. Every packet is encoded and decoded on its way, as on a socket. Deadlines pass when
nothing is under way any more: first those of agents that wait for peers, then the world's.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from agents.core import AgentCore
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
from agents.rules import AgentRules
from configs import streams
from configs.arrays import FloatArray
from configs.streams import Role
from envs.copies import EnvCopies
from runtime.host.host_table import HostTable
from runtime.net import latency, wire
from runtime.net.traffic import CLASS_OF, Traffic
from runtime.world import commands as world
from runtime.world.episodes import Phase
from runtime.world.lockstep import World
from runtime.world.rules import WorldRules

Ask = Callable[[wire.GuideQuestion], wire.GuideAnswer]
"""A guide in the learner."""
Lose = Callable[[int, wire.Packet], bool]

_TALLIED = (
    "agent_steps", "edge_slots", "edges_open", "late", "lost_messages", "lost_beacons",
    "snapshots_requested",
)  # fmt: skip


def _nothing_is_lost(_agent: int, _packet: wire.Packet) -> bool:
    return False


class SerialRun:
    """N agent cores around one world."""

    def __init__(
        self,
        copies: EnvCopies,
        rules: AgentRules,
        flat: FloatArray,
        world_rules: WorldRules,
        seed: int = 0,
        lose: Lose = _nothing_is_lost,
        *,
        life: int = 0,
        version: int = 1,
        env_steps: int = 0,
        episodes: int = 0,
    ) -> None:
        """Bring up world and agents.

        Args:
            flat: [P] policy parameters that agents begin with.
            lose: whether a packet to an agent is lost on the way.
            version: of those parameters.
            env_steps: training steps of an earlier run that this one continues.
            episodes: episodes of that earlier run.
        """
        self.copies, self.rules = copies, rules
        self.seed, self.life = seed, life
        self.lose = lose
        self.ask: Ask | None = None
        """Where the world's questions to a guide go."""
        self.parameters = ParameterStore(flat, version)
        """The policy that all agents have; a new version takes effect with the next step."""
        num_agents = rules.num_agents
        self._outs = [rules.graph.out_neighbours(agent) for agent in range(num_agents)]
        self._ins = [rules.graph.in_neighbours(agent) for agent in range(num_agents)]
        self._incarnations = [0] * num_agents
        self._killed: set[int] = set()
        self.world_traffic = Traffic()
        self._traffic = [Traffic() for _ in range(num_agents)]
        self.agents = [self._new_agent(agent) for agent in range(num_agents)]
        self.world = World(
            copies, rules.copies, world_rules, env_steps=env_steps, episodes=episodes
        )
        self.trajectories: list[wire.Trajectory] = []
        self.records: list[wire.EpisodeRecord] = []
        self.results: list[wire.EpisodeResult] = []
        self.dropped: list[str] = []
        self._queue: deque[tuple[int, wire.Packet, bytes]] = deque()
        for agent in range(num_agents):
            self._from_world(self.world.agent_state(agent, up=True))

    def evaluate(self, episodes: int) -> None:
        """Play this many evaluation episodes."""
        self.world.evaluate(episodes)
        self.run()

    def run(self) -> None:
        """Play until the world has nothing more to play, then say farewell."""
        while self.is_playing:
            self.tick()
        self.farewell()

    @property
    def is_playing(self) -> bool:
        return self.world.phase not in (Phase.DONE, Phase.TRAINED)

    def tick(self) -> None:
        """Play one step of all copies."""
        assert self.world.may_tick
        self._from_world(self.world.begin_tick())
        self._deliver()

    def farewell(self) -> None:
        """Have agents hand over what they have recorded."""
        self._from_world(self.world.farewell())
        self._deliver()

    def restart(self, agent: int) -> None:
        """Between two ticks, an agent dies and comes back knowing nothing."""
        self._from_world(self.world.agent_state(agent, up=False))
        self._incarnations[agent] += 1
        self.agents[agent] = self._new_agent(agent)
        for peer in self._outs[agent]:
            self._from_agent(peer, self.agents[peer].handle(Greeted()))
        self._from_world(self.world.agent_state(agent, up=True))

    def figures(self) -> dict[str, float]:
        """What the node of a run with processes would report of its agents."""
        table, version = (
            HostTable(len(self.agents), graph=self.rules.graph),
            self.parameters.version,
        )
        for agent, core in enumerate(self.agents):
            traffic = self._traffic[agent]
            for name in _TALLIED:
                traffic.set(name, getattr(core.tally, name))
            report = wire.AgentReport(
                agent=agent,
                incarnation=self._incarnations[agent],
                tick=core.tick,
                policy_version=version,
                counters=traffic.as_array(),
                latency=np.zeros((1, latency.BINS), dtype=np.uint64),
                action_latency=np.zeros(latency.BINS, dtype=np.uint64),
                edges=np.zeros((self.rules.graph.num_edges, 4), dtype=np.uint64),
            )
            table.update(report, time.monotonic())
        ready = float(len(self.agents) - len(self._killed))
        return {
            **table.status(time.monotonic()),
            "agents_ready": ready,
            "agents_listening": ready,
            "policy_version": float(version),
        }

    def _new_agent(self, agent: int) -> AgentCore:
        rng = streams.generator(
            self.seed,
            Role.AGENT,
            agent=agent,
            life=self.life,
            incarnation=self._incarnations[agent],
        )
        return AgentCore(agent, self.rules, self.parameters, rng)

    # --- packets on their way ---------------------------------------------------------------------

    def _deliver(self) -> None:
        while self._queue or self._let_deadlines_pass():
            agent, packet, frame = self._queue.popleft()
            if agent in self._killed or self.lose(agent, packet):
                continue
            event = wire.decode(frame)
            assert isinstance(
                event,
                (wire.Observation, wire.InMask, wire.PolicyDue, wire.Message, wire.Beacon),
            )
            self._from_agent(agent, self.agents[agent].handle(event))

    def _let_deadlines_pass(self) -> bool:
        """Nothing is under way any more: agents and world that still wait have met their deadlines.

        Returns whether that has set anything in motion.
        """
        for agent, core in enumerate(self.agents):
            if core.waits_for_peers and agent not in self._killed:
                self._from_agent(agent, core.handle(PeersLate()))
        if not self._queue and self.world.waits_for_agents:
            self._from_world(self.world.deadline())
        return bool(self._queue)

    def _from_world(self, commands: list[world.WorldCommand]) -> None:
        for command in commands:
            match command:
                case world.ToAgent():
                    self._send(None, [command.agent], command.packet)
                case world.ToLearner():
                    self.records.append(command.packet)
                    self._count(self.world_traffic, command.packet)
                case world.AskGuide():
                    assert self.ask is not None, "the run's algorithm has a guide"
                    answer = self.ask(command.packet)
                    self._count(self.world_traffic, command.packet)
                    self._from_world(self.world.guide(answer))
                case world.ToLauncher():
                    self.results.append(command.packet)
                case world.Kill():
                    self._killed.add(command.agent)
                    self._from_world(self.world.agent_state(command.agent, up=False))
                case world.Refused():
                    self.dropped.append(command.reason)

    def _from_agent(self, agent: int, commands: list[Command]) -> None:
        now_ns = time.monotonic_ns()
        for command in commands:
            match command:
                case SendMessage():
                    message = wire.Message(
                        agent, command.tick, now_ns, command.copies, command.rows
                    )
                    outs = self._outs[agent]
                    receivers = [outs[k] for k in command.edges]
                    self._send(agent, receivers, message)
                case SendBeacon():
                    beacon = wire.Beacon(agent, command.tick, now_ns, command.copies, command.rows)
                    self._send(agent, self._ins[agent], beacon)
                case ToWorld(packet=wire.Gates() as gates):
                    self._count(self._traffic[agent], gates)
                    self._from_world(self.world.gates(agent, gates))
                case ToWorld(packet=wire.Action() as action):
                    self._count(self._traffic[agent], action)
                    self._from_world(self.world.action(agent, action))
                case ToLearner():
                    self.trajectories.append(command.packet)
                    self._count(self._traffic[agent], command.packet)
                    self._traffic[agent].add("trajectories_sent")
                case Dropped():
                    self.dropped.append(command.reason)
                    self._traffic[agent].dropped(command.reason)
                case ToNode() | ToWorld():
                    pass

    def _send(self, sender: int | None, receivers: Sequence[int], packet: wire.Packet) -> None:
        """Put a packet on its way; a sender that is no agent is the world."""
        frame, traffic_class = wire.encode(packet), CLASS_OF[type(packet)]
        traffic = self.world_traffic if sender is None else self._traffic[sender]
        for receiver in receivers:
            traffic.sent(traffic_class, len(frame))
            self._traffic[receiver].received(traffic_class, len(frame))
            self._queue.append((receiver, packet, frame))

    def _count(self, traffic: Traffic, packet: wire.Packet) -> None:
        """Count what reaches world or learner directly."""
        traffic.sent(CLASS_OF[type(packet)], len(wire.encode(packet)))
