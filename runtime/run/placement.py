"""Where the processes of a run are, and what each is told.

    Plan, folder of sockets -> Placement -> endpoint and keys of each process
                                         -> WorldSetup, NodeSetup, LearnerPlace, Assignment
    agents that move -> Placement.move -> new keys -> moves

Here everything talks over sockets in a folder of its own, or over loopback; across hosts the book
of the deployment says who listens where, and which keys they have.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from agents.parameters import ParameterStore
from configs.load import dump_run_config
from runtime.host.attendance import Rebalancing
from runtime.host.setup import LOCAL_HOST, NodeSetup, place_of, training_setup
from runtime.net import moves, wire
from runtime.net.moves import Move
from runtime.net.security import KeyPair, Keyring
from runtime.net.transport import LAUNCHER, LEARNER, WORLD
from runtime.run.plan import LearnerPlace, Plan
from runtime.world.process import WorldSetup


class Placement:
    """Addresses, keys and setups of a run's processes."""

    def __init__(self, plan: Plan, sockets: str) -> None:
        """Place a run; `sockets` is a folder for its local sockets."""
        self._plan = plan
        self._sockets = sockets
        self._is_ipc = plan.config.runtime.transport == "ipc"
        self._moves: dict[int, Move] = {}
        """By agent, in the order in which they took place."""

    @property
    def host(self) -> str:
        """Name of this host."""
        return LOCAL_HOST if self._plan.head is None else self._plan.head.host.name

    @property
    def shares(self) -> dict[str, range] | dict[str, tuple[int, ...]]:
        """Agents of each host."""
        if self._plan.head is None:
            return {self.host: range(self._plan.config.num_agents)}
        return {host.name: host.agents for host in self._plan.head.book.hosts.hosts}

    def keyring(self, name: str) -> Keyring | None:
        """Keys of one of our processes; None if everything is on this machine."""
        if self._plan.head is None:
            return None
        keyring = self._plan.head.keyring(name)
        return dataclasses.replace(
            keyring,
            public=moves.renewed(keyring.public, self._moves.values()),
            is_renewed=self._plan.config.runtime.rebalance,
        )

    @property
    def rebalancing(self) -> Rebalancing | None:
        """When hosts count as gone for good; None: never."""
        runtime, head = self._plan.config.runtime, self._plan.head
        if head is None or not runtime.rebalance:
            return None
        hosts = head.book.hosts
        return Rebalancing(
            runtime.rebalance_after_s, {name: hosts.room(name) for name in hosts.names}
        )

    @property
    def has_moves(self) -> bool:
        return bool(self._moves)

    def move(self, homes: Mapping[int, str], incarnation: int) -> None:
        """Agents live on other hosts from now on, with new keys."""
        assert self._plan.head is not None
        names = self._plan.head.book.hosts.names
        for agent, home in homes.items():
            pair = KeyPair.generate()
            self._moves.pop(agent, None)  # the last to come
            self._moves[agent] = Move(
                agent, names.index(home), incarnation, pair.public, pair.secret
            )

    def moves(self, host: str = "") -> wire.Moves:
        """All moves so far, for the node of that host; empty: for anybody else."""
        head = self._plan.head
        index = head.book.hosts.names.index(host) if head is not None and host else None
        return moves.packed(self._moves.values(), index)

    def endpoint(self, name: str) -> str:
        """Where one of our processes listens."""
        if self._plan.head is not None and name in (LAUNCHER, WORLD, LEARNER):
            return self._plan.head.book.hosts.endpoint(name)
        return f"ipc://{self._sockets}/{name}" if self._is_ipc else "tcp://127.0.0.1:*"

    def learner(
        self, launcher_endpoint: str, bind_endpoint: str, *, incarnation: int, resume: bool
    ) -> LearnerPlace:
        return LearnerPlace(
            launcher_endpoint=launcher_endpoint,
            bind_endpoint=bind_endpoint,
            incarnation=incarnation,
            resume=resume,
            keyring=self.keyring(LEARNER),
        )

    def world(self, launcher_endpoint: str, learner_endpoint: str) -> WorldSetup:
        plan = self._plan
        return WorldSetup(
            config=plan.config,
            ships=plan.recorded,
            train_steps=plan.config.steps if plan.trains else 0,
            env_steps=plan.played_before.env_steps,
            episodes=plan.played_before.episodes,
            launcher_endpoint=launcher_endpoint,
            learner_endpoint=learner_endpoint,
            bind_endpoint=self.endpoint(WORLD),
            keyring=self.keyring(WORLD),
            failures=plan.failures,
            logs=plan.logs,
        )

    def node(self, launcher_endpoint: str, world_endpoint: str, learner_endpoint: str) -> NodeSetup:
        """Of the node on this host."""
        plan = self._plan
        return training_setup(
            plan.config,
            plan.spec,
            self._parameters(),
            ships=plan.recorded,
            learns=plan.start_learner is not None,
            place=None
            if plan.head is None
            else place_of(plan.head, is_renewed=plan.config.runtime.rebalance),
            launcher_endpoint=launcher_endpoint,
            world_endpoint=world_endpoint,
            learner_endpoint=learner_endpoint,
            ipc_dir=self._sockets if self._is_ipc or plan.head is not None else "",
            logs=plan.logs,
            drop_edges=plan.failures.drop_edges,
        )

    def assignment(self, host: str, incarnation: int) -> list[wire.Packet]:
        """What the node of another host is told when it joins: what is run, which agents have
        moved, and the policy that it begins with.
        """
        plan = self._plan
        text = dump_run_config(plan.config).encode()
        assignment = wire.Assignment(
            run_id=plan.directory.name,
            config=np.frombuffer(text, dtype=np.uint8),
            observation_dim=plan.spec.observation_dim,
            num_actions=plan.spec.num_actions,
            ships=plan.recorded,
            learns=int(plan.start_learner is not None),
            incarnation=incarnation,
        )
        told = [assignment, self.moves(host)] if self._moves else [assignment]
        return [*told, self._parameters().snapshot()]

    def _parameters(self) -> ParameterStore:
        return ParameterStore(self._plan.parameters, self._plan.version)
