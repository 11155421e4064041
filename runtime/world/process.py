"""The world's process: sockets in front of World.

    agents ⇄ Hub        launcher ⇄ Channel        learner ⇄ Delivery

Environments, opponents and lock-step live apart from the agents, in this process or in shards of it
(envs/shards.py), so that no agent can see more than it is handed.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Literal

import setproctitle
import zmq

from agents.comm.graphs import graph_of, moves
from configs import streams
from configs.algorithms.base import OnPolicy, Traits
from configs.algorithms.described import traits_of
from configs.columns import by_world, recorded
from configs.schedule import linear
from configs.schema import RunConfig
from configs.schema.limits import POSITION
from configs.streams import Role
from envs import registry
from envs.copies import EnvFailure
from envs.shards import ShardError, open_copies
from runtime.net import wire
from runtime.net.delivery import WORLD_MOST_BYTES, Delivery
from runtime.net.failures import NO_FAILURES, Failures
from runtime.net.limits import begin_process
from runtime.net.logs import lines_lost, setup_logging
from runtime.net.moves import keys_after
from runtime.net.security import Gatekeeper, Keyring
from runtime.net.traffic import REASONS, Traffic, TrafficClass
from runtime.net.transport import (
    CONTROL,
    LAUNCHER,
    LEARNER,
    STEP,
    TRAJECTORIES,
    WORLD,
    Channel,
    Hub,
    agent_routing_id,
)
from runtime.world.commands import (
    AskGuide,
    Kill,
    Refused,
    ToAgent,
    ToLauncher,
    ToLearner,
    WorldCommand,
)
from runtime.world.episodes import Phase
from runtime.world.guide import Guide
from runtime.world.lockstep import World
from runtime.world.rules import WorldRules

logger = logging.getLogger(__name__)

STATUS_PERIOD_S = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldSetup:
    """All that the world's process is told."""

    config: RunConfig
    ships: Literal["training", "all", "none"]
    """Episodes that go to the learner (or recorder)."""
    train_steps: int
    """0 only evaluates."""
    env_steps: int
    """Training steps of an earlier run that this one continues."""
    episodes: int
    """Episodes of that earlier run."""
    launcher_endpoint: str
    learner_endpoint: str
    """Empty if trajectories go nowhere."""
    bind_endpoint: str
    keyring: Keyring | None = None
    """Keys of a run across hosts; None if everything is on this machine."""
    failures: Failures = NO_FAILURES
    """What is made to fail in an evaluation."""
    logs: Path


class _Stopped(Exception):
    """The launcher says stop, or is gone."""


def main(setup: WorldSetup, make_world: Callable[..., World] = World) -> None:
    """Run the world until it is told to stop. Entry point of the process.

    Args:
        make_world: a benchmark's own kind, which keeps another pace.
    """
    setproctitle.setproctitle("murmuration: world")
    os.nice(setup.config.runtime.nice if setup.train_steps else 0)
    setup_logging("world", 0, setup.logs)
    begin_process(keyed=setup.keyring is not None)  # before shards are forked
    config = setup.config
    with ExitStack() as stack:
        try:
            # Shards are forked: before ZeroMQ starts its threads.
            copies = open_copies(
                config.env,
                config.num_agents,
                config.seed,
                setup.episodes,
                timeout_s=config.runtime.silent_timeout_s / 2,
                life=config.life,
            )
            stack.callback(copies.close)
            world = make_world(
                copies,
                config.env.copies,
                rules_of(setup),
                env_steps=setup.env_steps,
                episodes=setup.episodes,
            )
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            stack.callback(context.term)
            host = WorldHost(setup, world, context)
            stack.callback(host.close)
            host.serve()
        except _Stopped as stop:
            logger.info("stopping: %s", stop)
        except Exception:  # the process edge: the launcher points to our log
            logger.exception("the world cannot go on")
            raise SystemExit(1) from None


def rules_of(setup: WorldSetup) -> WorldRules:
    """What a world needs to know of a run."""
    config = setup.config
    agents = config.agents
    evaluates = config.evaluation.episodes > 0
    updates_per_episode, max_backlog = (
        config.learner.updates_per_episode,
        config.learner.max_backlog,
    )
    traits = traits_of(config.learner)
    experience, guide = traits.experience, None
    rollout_steps, overlaps = 0, False
    if isinstance(experience, OnPolicy):
        # Nothing is played while a rollout is worked off.
        steps = experience.epochs * experience.minibatches
        updates_per_episode, max_backlog = steps / experience.episodes, 0
        rollout_steps, overlaps = experience.steps, experience.overlaps
    elif setup.train_steps:
        guide = _guide(config)  # another's actions are no trial of one's own policy
    return WorldRules(
        graph=graph_of(config.comm, config.comm_options, config.num_agents),
        moves=moves(config.comm, config.comm_options),
        gate_timing=config.gate.timing,
        dead=agents.dead,
        ships=setup.ships,
        train_steps=setup.train_steps,
        evaluation_interval=config.evaluation.interval_steps if evaluates else 0,
        evaluation_episodes=config.evaluation.episodes,
        epsilon=linear(agents.epsilon_start, agents.epsilon_end, agents.epsilon_steps),
        updates_per_episode=updates_per_episode,
        max_backlog=max_backlog,
        opponents=registry.opponents_of(config.env),
        guide=guide,
        asks=_asks(traits) if setup.train_steps else "nobody",
        columns=tuple(c.name for c in by_world(recorded(config, trains=setup.train_steps > 0))),
        in_rounds=isinstance(experience, OnPolicy),
        rollout_steps=rollout_steps,
        overlaps=overlaps,
        seed=config.seed,
        life=config.life,
        victims=setup.failures.victims(config.num_agents, config.seed),
        kill_at=setup.failures.kill_at,
    )


def _asks(traits: Traits) -> Literal["nobody", "training", "always"]:
    """Where a guide in the learner's process plays."""
    if traits.acting != "guided":
        return "nobody"
    return "always" if traits.centralised else "training"


def _guide(config: RunConfig) -> Guide | None:
    """The guide that plays some of the exploring steps, if the run asks for one."""
    name = config.agents.adviser
    if not name:
        return None
    player = registry.contested_family_of(config.env.name).adviser(name)
    rng = streams.generator(config.seed, Role.GUIDE, life=config.life)
    spec = registry.spec_of(config.env, config.num_agents)
    features = spec.observation_dim - POSITION if spec.has_position else None
    return Guide(player, config.agents.advice, rng, features)


class WorldHost:
    """Moves packets between the sockets and the world."""

    def __init__(
        self, setup: WorldSetup, world: World, context: zmq.Context[zmq.Socket[bytes]]
    ) -> None:
        self._setup = setup
        self._world = world
        self._traffic = Traffic()
        keyring = setup.keyring
        self._gatekeeper: Gatekeeper | None = None
        if keyring is not None:
            self._gatekeeper = Gatekeeper(context, is_patient=keyring.is_renewed)
            self._admit(keyring.public)
        self._hub = Hub(
            context,
            setup.bind_endpoint,
            self._traffic,
            STEP,
            curve=None if keyring is None else keyring.server(WORLD),
        )
        self._launcher = Channel(
            context,
            setup.launcher_endpoint,
            WORLD.encode(),
            self._traffic,
            CONTROL,
            linger_ms=500,
            curve=None if keyring is None else keyring.client_of(LAUNCHER),
        )
        self._delivery: Delivery | None = None
        """Where episode records go, and stay until they are acknowledged."""
        if setup.learner_endpoint:
            learner = Channel(
                context,
                setup.learner_endpoint,
                WORLD.encode(),
                self._traffic,
                TRAJECTORIES,
                curve=None if keyring is None else keyring.client_of(LEARNER),
            )
            self._delivery = Delivery(context, learner, WORLD_MOST_BYTES)
        self._poller = zmq.Poller()
        self._poller.register(self._hub.socket, zmq.POLLIN)
        self._poller.register(self._launcher.socket, zmq.POLLIN)
        self._answers: zmq.Socket[bytes] | None = None
        """Where a guide's answers come from."""
        if self._delivery is not None and rules_of(setup).asks != "nobody":
            self._answers = self._delivery.socket
            self._poller.register(self._answers, zmq.POLLIN)
        parent = parent_process()
        self._parent_fd = parent.sentinel if parent is not None else None
        if self._parent_fd is not None:
            self._poller.register(self._parent_fd, zmq.POLLIN)
        self._names = [agent_routing_id(agent) for agent in range(setup.config.num_agents)]
        self._agents = {name: agent for agent, name in enumerate(self._names)}
        self._asked: dict[int, wire.Observation | wire.InMask] = {}
        """What each agent was told last."""
        self._started = False
        self._said_farewell = True  # nothing has been played yet
        self._deadline = 0.0
        self._status_at = 0.0
        self._learner_wait_s = 0.0
        """Seconds in which nothing was played because the learner owed too many updates."""

    def _admit(self, public: Mapping[str, str]) -> None:
        """From now on let agents in by these keys."""
        assert self._gatekeeper is not None
        agents = range(self._setup.config.num_agents)
        names = [agent_routing_id(agent).decode() for agent in agents]
        self._gatekeeper.admit(WORLD, {name: public[name] for name in names})

    def _take_moves(self, packet: wire.Moves) -> None:
        """Agents live on other hosts and have new keys."""
        try:
            public = keys_after(packet, self._setup.keyring, self._setup.config.num_agents)
        except ValueError:
            self._traffic.dropped("range")
        else:
            self._admit(public)

    def serve(self) -> None:
        hello = wire.Hello("world", 0, 0, os.getpid(), self._hub.endpoint)
        while not self._launcher.is_writable:
            self._wait(0.02)
        self._launcher.send(hello)
        try:
            while True:
                self._turn()
        except ShardError as error:
            (reason, *_) = str(error).splitlines()
            self._launcher.send(wire.Failure(f"the world's {reason}"))
            raise
        except EnvFailure as error:
            self._launcher.send(wire.Failure(str(error)))
            raise

    def _turn(self) -> None:
        now_s = time.monotonic()
        world = self._world
        is_status_due = now_s >= self._status_at
        if is_status_due and self._delivery is not None:
            self._delivery.turn()
            # It has taken what had come, and a socket that is empty wakes nobody.
            self._take_answers(self._delivery)
        if self._started and world.may_tick:
            self._deadline = now_s + self._setup.config.runtime.step_timeout_s
            self._said_farewell = False
            self._carry_out(world.begin_tick())
        elif world.phase in (Phase.TRAINED, Phase.DONE) and not self._said_farewell:
            self._said_farewell = True
            self._carry_out(world.farewell())
        if is_status_due:
            self._status_at = now_s + STATUS_PERIOD_S
            self._send_status()
        wake_at = self._status_at
        if world.waits_for_agents:
            wake_at = min(wake_at, self._deadline)
        waits_for_learner = self._started and world.waits_for_learner
        ready = self._wait(max(wake_at - now_s, 0.0))
        if waits_for_learner:
            self._learner_wait_s += time.monotonic() - now_s
        if self._hub.socket in ready:
            self._take_actions()
        if self._launcher.socket in ready:
            self._take_control()
        if self._delivery is not None and self._answers in ready:
            self._delivery.take()
            self._take_answers(self._delivery)
        if world.waits_for_agents and time.monotonic() >= self._deadline:
            tick, missing = world.tick, world.missing
            self._deadline = time.monotonic() + self._setup.config.runtime.step_timeout_s
            self._carry_out(world.deadline())
            if missing:
                logger.warning("tick %d: no action from agents %s", tick, missing)
            else:
                logger.info("tick %d: asking the guide again", tick)

    def _take_answers(self, delivery: Delivery) -> None:
        """Do what the guide says."""
        answers, delivery.answers = delivery.answers, []
        for answer in answers:
            self._carry_out(self._world.guide(answer))

    def _wait(self, timeout_s: float) -> set[object]:
        ready: set[object] = {socket for socket, _ in self._poller.poll(int(1000 * timeout_s) + 1)}
        if self._parent_fd in ready:
            raise _Stopped("the launcher is gone")
        return ready

    def _take_actions(self) -> None:
        for peer, packet in self._hub.drain(wire.Action, wire.Gates):
            agent = self._agents.get(peer)
            if agent is None:
                self._traffic.dropped("unknown_sender")
            elif isinstance(packet, wire.Action):
                if commands := self._world.action(agent, packet):
                    self._carry_out(commands)
            elif isinstance(packet, wire.Gates):
                self._carry_out(self._world.gates(agent, packet))
        self._ask_again()

    def _ask_again(self) -> None:
        """What an agent was told may have died with its connection: it is told again over the new
        one, and answers again if it was its answer that was lost.
        """
        for name in self._hub.take_arrivals():
            agent = self._agents.get(name)
            if agent is not None and self._world.is_missing(agent) and agent in self._asked:
                self._hub.send(name, self._asked[agent])

    def _take_control(self) -> None:
        for packet in self._launcher.drain(
            wire.AgentState, wire.Instruction, wire.LearnerState, wire.Moves, wire.Stop
        ):
            match packet:
                case wire.AgentState() if packet.agent < self._setup.config.num_agents:
                    self._carry_out(self._world.agent_state(packet.agent, up=bool(packet.up)))
                case wire.AgentState():
                    self._traffic.dropped("range")
                case wire.Instruction(name="start"):
                    self._started = True
                case wire.LearnerState():
                    self._world.learner.progress(
                        updates_owed=packet.updates_owed,
                        episodes_taken=packet.episodes_taken,
                        rollouts_owed=packet.rollouts_owed,
                        policy_version=packet.policy_version,
                    )
                case wire.Moves():
                    self._take_moves(packet)
                case wire.Instruction(name="learner_gone"):
                    self._world.learner.gone()
                case wire.Instruction(name="finish"):
                    self._world.finish_training()
                case wire.Instruction(name="evaluate"):
                    self._world.evaluate(packet.value)
                case wire.Stop():
                    raise _Stopped(packet.reason)
                case _:
                    self._traffic.dropped("kind")

    def _carry_out(self, commands: list[WorldCommand]) -> None:
        for command in commands:
            match command:
                case ToAgent():
                    if not isinstance(command.packet, wire.PolicyDue):
                        self._asked[command.agent] = command.packet
                    self._hub.send(self._names[command.agent], command.packet)
                case ToLearner():
                    if self._delivery is not None:
                        self._delivery.send(command.packet)
                case AskGuide():
                    if self._delivery is not None:
                        self._delivery.ask(command.packet)
                case ToLauncher():
                    self._launcher.send(command.packet)
                case Kill():
                    self._launcher.send(wire.Instruction("kill", command.agent))
                case Refused():
                    self._traffic.dropped(command.reason)

    def _send_status(self) -> None:
        world, traffic = self._world, self._traffic
        classes = (TrafficClass.OBSERVATION, TrafficClass.TRAJECTORY)
        values = {
            **world.figures(),
            "learner_wait_s": self._learner_wait_s,
            "dropped": traffic.dropped_total,
            **{f"dropped_{r}": n for r in REASONS if (n := traffic[f"dropped_{r}"])},
            "log_lines_lost": lines_lost(),
            "records_unacknowledged": len(self._delivery.outbox) if self._delivery else 0,
            "records_given_up": self._delivery.outbox.dropped if self._delivery else 0,
            **{
                f"sent_payload_{c.name.lower()}": traffic[f"sent_payload_{c.name.lower()}"]
                for c in classes
            },
        }
        self._launcher.send(wire.Status("world", {k: float(v) for k, v in values.items()}))
        self._launcher.send(wire.WorldState(world.phase.value))

    def close(self) -> None:
        self._send_status()
        self._hub.close()
        self._launcher.close()
        if self._delivery is not None:
            self._delivery.close()
        if self._gatekeeper is not None:
            self._gatekeeper.close()
