"""Edges in use: which messages and beacons are under way, by the masks that agents report.

    out-masks of senders -> turned along the backbone -> masks of what each agent may wait for

Every action carries the mask of out-edges that its agent has just used. Turned round, the masks say
to each agent which in-neighbours have sent something, which out-neighbours are there, and which of
them have said something new about themselves.

Dimension key: E = copies, N = agents, K = offsets.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.base import BoolArray
from runtime.net.topology import Graph

MaskArray = NDArray[np.unsignedinteger[Any]]


class EdgesInUse:
    """Masks of edges, by copy and agent."""

    def __init__(self, num_copies: int, graph: Graph) -> None:
        self._graph = graph
        self._offsets = graph.offsets
        self._num_copies = num_copies
        self._dtype = dtype = graph.mask_dtype
        self._bits = [dtype(1 << k) for k in range(graph.num_edges)]
        shape = (num_copies, graph.num_agents)
        self.out_EN: MaskArray = np.zeros(shape, dtype=dtype)
        """Out-edges that agents use in this tick, as far as they have said so."""
        self.says_EN: BoolArray = np.zeros(shape, dtype=np.bool_)
        """Agents whose beacon was news in this tick, and so is under way."""
        self.in_EN: MaskArray = np.zeros(shape, dtype=dtype)
        """In-edges over which a message is under way."""
        self.peers_EN: MaskArray = np.zeros(shape, dtype=dtype)
        """Out-neighbours that took part in the last step; see also `peers_near`."""
        self.beacons_EN: MaskArray = np.zeros(shape, dtype=dtype)
        """Out-neighbours of which a beacon is under way."""

    def fits(self, out_masks: MaskArray) -> bool:
        """Whether an agent's [E] out-masks have the right shape and width."""
        return out_masks.shape == (self._num_copies,) and out_masks.dtype == self._dtype

    def exist(self, out_masks: MaskArray) -> bool:
        """Whether out-masks name edges of the backbone alone."""
        return not int(np.bitwise_or.reduce(out_masks)) >> len(self._offsets)

    def tick_begins(self) -> None:
        """Nobody has said anything yet."""
        self.out_EN[:] = 0
        self.says_EN[:] = False

    def messages_are_sent(self) -> None:
        """The out-masks of this tick are known: its messages are under way."""
        self.in_EN = self._turn_to_receivers(self.out_EN)

    def step_ends(self, present_EN: BoolArray) -> None:
        """What is under way to the next step, of the agents that took part in this one."""
        self.messages_are_sent()
        self.peers_EN = self.turn_to_senders(present_EN)
        self.beacons_EN = self.turn_to_senders(present_EN & self.says_EN)

    def peers_near(self, neighbours_ENN: BoolArray, first_E: BoolArray) -> MaskArray:
        """[E, N] where the graph moves: `peers_EN`, but for those who are no neighbours in this
        step. In the first step of an episode nobody has been heard, and all neighbours count as
        there.

        Args:
            neighbours_ENN: who is whose neighbour, as the environment sees it now.
            first_E: copies in which an episode begins.
        """
        near_ENK = self._graph.edges_of(neighbours_ENN)
        near_EN: MaskArray = (near_ENK * np.array(self._bits)).sum(axis=-1, dtype=self._dtype)
        return np.where(first_E[:, None], near_EN, near_EN & self.peers_EN)

    def forget(self, copy: int | slice = slice(None)) -> None:
        """A new episode begins in this copy (or in all): nothing is under way."""
        self.in_EN[copy] = 0
        self.peers_EN[copy] = 0
        self.beacons_EN[copy] = 0

    def spare(self, victims: Sequence[int]) -> None:
        """Expect nothing from agents that are about to be killed.

        What they said last may die in their sockets: no agent is told to wait for it, so that the
        kill is the same in every run.
        """
        spared_EN = np.ones(self.in_EN.shape, dtype=np.bool_)
        spared_EN[:, list(victims)] = False
        every_edge = self._dtype((1 << len(self._offsets)) - 1)
        self.in_EN &= self._turn_to_receivers(np.where(spared_EN, every_edge, self._dtype(0)))
        self.peers_EN &= self.turn_to_senders(spared_EN)
        self.beacons_EN &= self.turn_to_senders(spared_EN)

    def _turn_to_receivers(self, masks_EN: MaskArray) -> MaskArray:
        """[E, N] out-masks of senders -> in-masks: bit k of agent i is bit k of i - offset k."""
        turned = np.zeros_like(masks_EN)
        for offset, bit in zip(self._offsets, self._bits, strict=True):
            turned |= np.roll(masks_EN, offset, axis=1) & bit
        return turned

    def turn_to_senders(self, present_EN: BoolArray) -> MaskArray:
        """[E, N] bit k of agent i: its out-neighbour i + offset k was there."""
        masks = np.zeros(present_EN.shape, dtype=self._dtype)
        for offset, bit in zip(self._offsets, self._bits, strict=True):
            masks |= np.roll(present_EN, -offset, axis=1) * bit
        return masks
