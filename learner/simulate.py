"""Evaluation in one process, through the unroll that trains: fast, and no sockets.

    Copies -> observations -> unroll (one step, carry) -> greedy actions -> Copies

What the agents' processes would do, gates and rounding included; the parity test holds the two
against each other.

Dimension key: E = copies, N = agents, A = actions, K = offsets.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agents.policy import PolicyFile
from configs.schema import RunConfig
from envs.base import Snapshot
from envs.copies import Copies
from learner.gates import GateRule
from learner.network import PolicyNetwork
from learner.unroll import Carry, UnrollInput, unroll


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedEpisode:
    """One finished episode."""

    episode_return: float
    """Undiscounted sum over steps of the mean individual reward of all N agents."""
    won: bool
    length: int
    """Environment steps."""
    agent_steps: int
    """Steps of living agents, summed over agents."""
    edges_open: int
    """Out-edges used by living agents."""
    message_bytes: int
    """Payload of the messages on those edges, without headers."""

    @property
    def out_degree(self) -> float:
        """Open out-edges of a living agent, mean over its steps."""
        return self.edges_open / max(self.agent_steps, 1)


@dataclass(slots=True)
class _Tally:
    """A copy's episode in progress."""

    episode_return: float = 0.0
    length: int = 0
    agent_steps: int = 0
    edges_open: int = 0


def simulate(
    config: RunConfig,
    policy: PolicyFile,
    copies: Copies,
    episodes: int,
    progress: Callable[[int], None] | None = None,
) -> list[SimulatedEpisode]:
    """Play greedy episodes with deterministic gates.

    Episodes are shared out to the copies beforehand: counting whichever ends first would prefer
    short ones.

    Args:
        config: of the run; `comm`, `gate` and `agents.dead` matter here.
        policy: what all agents play.
        copies: environments, reset by this call.
        episodes: number of episodes to return.
        progress: called with the number of finished episodes.
    """
    snapshots = copies.reset()
    num_copies = len(snapshots)
    quotas = [(episodes + copy) // num_copies for copy in range(num_copies)]
    network = PolicyNetwork(policy.spec, copies.spec.num_agents)
    network.load_flat(policy.flat)
    rule = GateRule.of(config.comm, config.gate.timing, config.gate.mode)
    bytes_per_edge = policy.spec.message * np.dtype(policy.spec.message_dtype).itemsize
    carry = Carry.begin(network, num_copies)
    tallies = [_Tally() for _ in snapshots]
    finished: list[SimulatedEpisode] = []
    while any(quotas):
        alive_EN = np.array([snapshot.alive_N for snapshot in snapshots])
        with torch.no_grad():
            window = _window(snapshots, relay=config.agents.dead == "relay")
            output = unroll(network, window, rule, carry)
        actions_EN = output.q_TBNA[0].argmax(-1).numpy()
        open_E = (output.gates_TBNK[0].sum(-1).numpy() * alive_EN).sum(-1)
        steps = copies.step(np.where(alive_EN, actions_EN, copies.spec.noop_action))
        ended_E = np.zeros(num_copies, dtype=np.bool_)
        for copy, (transition, _) in enumerate(steps):
            tally = tallies[copy]
            tally.episode_return += float(transition.rewards_N.mean(dtype=np.float64))
            tally.length += 1
            tally.agent_steps += int(alive_EN[copy].sum())
            tally.edges_open += int(open_E[copy])
            ended_E[copy] = transition.terminated or transition.truncated
            if not ended_E[copy]:
                continue
            tallies[copy] = _Tally()
            if quotas[copy] > 0:
                quotas[copy] -= 1
                finished.append(
                    SimulatedEpisode(
                        episode_return=tally.episode_return,
                        won=transition.won,
                        length=tally.length,
                        agent_steps=tally.agent_steps,
                        edges_open=tally.edges_open,
                        message_bytes=tally.edges_open * bytes_per_edge,
                    )
                )
                if progress is not None:
                    progress(len(finished))
        snapshots = tuple(step.now for step in steps)
        carry = output.carry.restart(torch.tensor(ended_E))
    return finished


def _window(snapshots: tuple[Snapshot, ...], *, relay: bool) -> UnrollInput:
    """One step of E copies as the agents see it: observations travel as float16."""
    observations = np.array([snapshot.observations_ND for snapshot in snapshots])
    alive = torch.tensor(np.array([snapshot.alive_N for snapshot in snapshots]))
    seen: Tensor = torch.tensor(observations.astype(np.float16)).float()
    return UnrollInput(seen.unsqueeze(0), (torch.ones_like(alive) if relay else alive).unsqueeze(0))
