"""Evaluation in one process, through the unroll that trains: fast, and no sockets.

    Copies -> observations -> unroll (one step, carry) -> greedy actions -> Copies

What the agents' processes would do, gates and rounding included; the parity test holds the two
against each other. Planned failures (runtime/net/failures.py) are part of it: victims fall out at
the same step, and losses are drawn by the generators that the agents would have, so the same
packets are lost.

Dimension key: E = copies, N = agents, A = actions, K = offsets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents import tanh_normal
from agents.comm.link_loss import LinkLoss
from agents.found import ranks_by_beacons
from agents.policy import PolicyFile, PolicySpec
from agents.tanh_normal import Scale
from configs import streams
from configs.cpus import usable_cpus
from configs.schema import RunConfig
from configs.streams import Role
from envs.base import EnvSpec, Snapshot
from envs.copies import Copies
from envs.opponent_schedule import OpponentSchedule
from learner.comm.edges import neighbours_seen
from learner.comm.gates import GateRule
from learner.comm.unroll import Carry, UnrollInput, begun_lives, unroll
from learner.network import PolicyNetwork
from runtime.net.failures import NO_FAILURES, Failures


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedEpisode:
    """One finished episode."""

    episode_return: float
    """Undiscounted sum over steps of the mean individual reward of all N agents."""
    spared_return: float
    """The same of those agents that are not among a kill's victims."""
    won: bool
    opponent: int
    """Index of the opponent in the schedule."""
    length: int
    """Environment steps."""
    agent_steps: int
    """Steps of living agents, summed over agents."""
    edges_open: int
    """Out-edges used by living agents."""
    message_bytes: int
    """Payload of the messages on those edges, without headers."""
    metrics: Mapping[str, float]
    """Further figures, by the environment's own names."""

    @property
    def out_degree(self) -> float:
        """Open out-edges of a living agent, mean over its steps."""
        return self.edges_open / max(self.agent_steps, 1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SimulatedStep:
    """What happened on the edges in one step of all copies."""

    episodes_E: NDArray[np.int64]
    """Number of the episode that a copy plays, in the order in which they begin; -1: it rests."""
    alive_EN: NDArray[np.bool_]
    takes_part_EN: NDArray[np.bool_]
    """Sends and is heard: the living, and the dead as well where they keep relaying."""
    allowed_ENK: NDArray[np.bool_]
    """Out-edges that could be used."""
    open_ENK: NDArray[np.bool_]
    """Out-edges that were used."""


@dataclass(slots=True)
class _Tally:
    """A copy's episode in progress."""

    episode_return: float = 0.0
    spared_return: float = 0.0
    length: int = 0
    agent_steps: int = 0
    edges_open: int = 0


def simulate(
    config: RunConfig,
    policy: PolicyFile,
    copies: Copies,
    episodes: int,
    progress: Callable[[int], None] | None = None,
    failures: Failures = NO_FAILURES,
    opponents: OpponentSchedule | None = None,
    watch: Callable[[SimulatedStep], None] | None = None,
) -> list[SimulatedEpisode]:
    """Play greedy episodes with deterministic gates.

    They are those that processes would play: a copy whose episode has ended takes the next one,
    until as many have begun as were asked for. A copy that gets none rests.

    Args:
        config: of the run; `comm`, `gate` and `agents.dead` matter here.
        policy: what all agents play.
        copies: environments, reset by this call.
        episodes: number of episodes to return.
        progress: called with the number of finished episodes.
        failures: what is made to fail. A kill counts steps from the beginning of the call: give
            every episode a copy of its own.
        opponents: who plays the other team, episodes in turn; None: the copies' first.
        watch: called in every step, when the agents have decided and before the copies are played.

    Raises:
        ValueError: link loss with the paper's timing, in which a gate acts within its own step; or
            with a budget, of which agents give nothing to peers whose beacon was lost, and with
            schemes that have one of their own.
    """
    if failures.drop_edges and config.gate.timing == "paper":
        raise ValueError("losses are simulated with gate.timing causal only, got paper")
    if failures.drop_edges and config.gate.budget:
        raise ValueError(f"losses are simulated without gate.budget only, got {config.gate.budget}")
    rule = GateRule.of(config.comm, config.gate)
    if failures.drop_edges and ranks_by_beacons(config.comm, rule.mode, policy.spec.scheme_opts()):
        raise ValueError(
            f"losses are simulated where a gate judges each edge by itself, and comm {config.comm} "
            "takes another edge for one whose beacon was lost"
        )
    # Torch goes by the affinity and knows of no quota.
    torch.set_num_threads(min(torch.get_num_threads(), usable_cpus()))
    snapshots = copies.reset()
    num_copies = len(snapshots)
    network = PolicyNetwork(policy.spec, copies.spec.num_agents)
    network.load_flat(policy.flat)
    bytes_per_edge = policy.spec.message * np.dtype(policy.spec.message_dtype).itemsize
    carry = Carry.begin(network, num_copies)
    num_agents = copies.spec.num_agents
    victims = list(failures.victims(num_agents, config.seed))
    spared_N = np.ones(num_agents, dtype=np.bool_)
    spared_N[victims] = False
    up_N = np.ones(num_agents, dtype=np.bool_)
    losses = None
    if failures.drop_edges:
        losses = _Losses(failures.drop_edges, rule, config.seed, carry, network)
    # As in runtime/world/lockstep.py: episodes meet the opponents in the order in which they begin.
    begun = min(episodes, num_copies)
    rests_E = np.arange(num_copies) >= begun
    plays_E = np.array([opponents.in_turn(i) if opponents else 0 for i in range(num_copies)])
    numbers_E = np.arange(num_copies)
    step = 0
    tallies = [_Tally() for _ in snapshots]
    finished: list[SimulatedEpisode] = []
    lived_EN = np.ones((num_copies, num_agents), dtype=np.bool_)
    while len(finished) < episodes:
        if victims and step == failures.kill_at:
            up_N = spared_N
            # What they said last is not heard any more: see runtime/world/lockstep.py.
            carry.edges_BNK[:, victims] = 0.0
            carry.alive_BN[:, victims] = False
        step += 1
        alive_EN = np.array([snapshot.alive_N for snapshot in snapshots]) & up_N
        alive_EN[rests_E] = False
        if losses is not None:
            losses.draw()
            carry.edges_BNK = losses.after_messages(carry.edges_BNK)
        with torch.no_grad():
            window = _window(network, snapshots, up_N, relay=config.agents.dead == "relay")
            if copies.spec.comes_back:
                begins_TBN = begun_lives(torch.tensor(alive_EN)[None], torch.tensor(lived_EN))
                window = replace(window, begins_TBN=begins_TBN)
                lived_EN = alive_EN
            output = unroll(network, window, rule, carry)
        gates_BNK = output.gates_TBNK[0]
        if losses is not None:
            gates_BNK = losses.after_beacons(gates_BNK, carry.first_B)
            output.carry.edges_BNK = gates_BNK
        actions_EN = _greedy(output.q_TBNA[0], snapshots, policy.spec)
        open_E = (gates_BNK.sum(-1).numpy() * alive_EN).sum(-1)
        if watch is not None:
            watch(
                SimulatedStep(
                    episodes_E=np.where(rests_E, -1, numbers_E),
                    alive_EN=alive_EN,
                    takes_part_EN=window.alive_TBN[0].numpy(),
                    allowed_ENK=output.allowed_TBNK[0].numpy(),
                    open_ENK=gates_BNK.numpy() > 0.0,
                )
            )
        steps = copies.step(_of_living(actions_EN, alive_EN, copies.spec), plays_E, rests_E)
        ended_E = np.zeros(num_copies, dtype=np.bool_)
        for copy in np.flatnonzero(~rests_E).tolist():
            transition, tally = steps[copy].transition, tallies[copy]
            tally.episode_return += float(transition.rewards_N.mean(dtype=np.float64))
            tally.spared_return += float(transition.rewards_N[spared_N].mean(dtype=np.float64))
            tally.length += 1
            tally.agent_steps += int(alive_EN[copy].sum())
            tally.edges_open += int(open_E[copy])
            ended_E[copy] = transition.terminated or transition.truncated
            if not ended_E[copy]:
                continue
            finished.append(
                SimulatedEpisode(
                    episode_return=tally.episode_return,
                    spared_return=tally.spared_return,
                    won=transition.won,
                    length=tally.length,
                    agent_steps=tally.agent_steps,
                    edges_open=tally.edges_open,
                    opponent=int(plays_E[copy]),
                    message_bytes=tally.edges_open * bytes_per_edge,
                    metrics=transition.metrics,
                )
            )
            if progress is not None:
                progress(len(finished))
            rests_E[copy] = begun == episodes
            if begun < episodes:
                tallies[copy] = _Tally()
                plays_E[copy] = opponents.in_turn(begun) if opponents else 0
                numbers_E[copy] = begun
                begun += 1
        snapshots = tuple(step.now for step in steps)
        carry = output.carry
        if network.scheme.says_actions:
            acted_EN = np.where(alive_EN, actions_EN, 0)
            carry = carry.after_acting(network, torch.tensor(acted_EN))
        carry = carry.restart(torch.tensor(ended_E))
        lived_EN = lived_EN | ended_E[:, None]
    return finished


class _Losses:
    """What the receivers throw away, each by the draws that its process would make."""

    def __init__(
        self, probability: float, rule: GateRule, seed: int, carry: Carry, network: PolicyNetwork
    ) -> None:
        num_copies, num_agents, num_offsets = carry.edges_BNK.shape
        self._offsets = network.scheme.graph.offsets
        self._loses_beacons = rule.mode == "learned"  # other edges need none, or are refused
        self._losses = [
            LinkLoss(
                probability,
                num_copies,
                num_offsets,
                # As in agents/process/shell.py; an evaluation is a run's first life.
                streams.generator(seed, Role.AGENT, agent=agent, life=0, incarnation=0),
            )
            for agent in range(num_agents)
        ]
        self._heard_ENK = self._peers_heard_ENK = np.ones(carry.edges_BNK.shape, dtype=np.bool_)

    def draw(self) -> None:
        """Draw the losses of the next step."""
        draws = [loss.draw() for loss in self._losses]
        self._heard_ENK = np.stack([~messages_EK for messages_EK, _ in draws], axis=1)
        self._peers_heard_ENK = np.stack([~beacons_EK for _, beacons_EK in draws], axis=1)

    def after_messages(self, edges_BNK: Tensor) -> Tensor:
        """The out-edges whose message is under way and will be heard."""
        # A receiver draws for its in-edges: out-edge (i, k) ends at i + offset k.
        heard_KEN = [
            np.roll(self._heard_ENK[:, :, k], -offset, axis=1)
            for k, offset in enumerate(self._offsets)
        ]
        return edges_BNK * torch.tensor(np.stack(heard_KEN, axis=-1))

    def after_beacons(self, gates_BNK: Tensor, first_B: Tensor) -> Tensor:
        """The gates, closed where the peer's beacon was lost; at a first step nobody needs one."""
        if not self._loses_beacons:
            return gates_BNK
        return gates_BNK * (torch.tensor(self._peers_heard_ENK) | first_B[:, None, None])


def _greedy(q_ENA: Tensor, snapshots: tuple[Snapshot, ...], spec: PolicySpec) -> NDArray[Any]:
    """[E, N] the best actions of those that the environment allows, or [E, N, n] real numbers."""
    if spec.bounds is not None:
        return tanh_normal.mode(q_ENA.numpy(), Scale.of(spec.bounds))
    if snapshots[0].action_masks_NA is not None:
        masks_ENA = np.array([snapshot.action_masks_NA for snapshot in snapshots])
        q_ENA = q_ENA.masked_fill(~torch.tensor(masks_ENA), float("-inf"))
    return q_ENA.argmax(-1).numpy()


def _of_living(
    actions_EN: NDArray[Any], alive_EN: NDArray[np.bool_], spec: EnvSpec
) -> NDArray[Any]:
    """[E, N, …] the same, and what is played for the dead."""
    if not spec.is_continuous:
        return np.where(alive_EN, actions_EN, spec.noop_action)
    return np.where(alive_EN[..., None], actions_EN, np.float32(0.0))


def _window(
    network: PolicyNetwork, snapshots: tuple[Snapshot, ...], up_N: NDArray[np.bool_], *, relay: bool
) -> UnrollInput:
    """One step of E copies as the agents see it."""
    observations = np.array([snapshot.observations_ND for snapshot in snapshots])
    up = torch.tensor(up_N)
    alive = torch.tensor(np.array([snapshot.alive_N for snapshot in snapshots])) & up
    seen: Tensor = torch.tensor(observations).float()
    takes_part = up.expand_as(alive) if relay else alive
    return UnrollInput(
        seen.unsqueeze(0),
        takes_part.unsqueeze(0),
        neighbours_TBNK=neighbours_seen(network.scheme, snapshots, seen.device),
    )
