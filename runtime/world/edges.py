"""Edges in use: which messages and beacons are under way, by the masks that agents report.

    out-masks of senders -> turned along the backbone -> masks of what each agent may wait for

Every action carries the mask of out-edges that its agent has just used. Turned round, the masks say
to each agent which in-neighbours have sent something, which out-neighbours are there, and which of
them have said something new about themselves.

Dimension key: E = copies, N = agents, K = offsets, *W = extents of one mask, none where it is one
number (runtime/net/edge_bits.py). What ends with EN has those of a mask behind it.
"""

from collections.abc import Sequence

import numpy as np

from envs.base import BoolArray
from runtime.net.edge_bits import MaskArray
from runtime.net.topology import Graph


class EdgesInUse:
    """Masks of edges, by copy and agent."""

    def __init__(self, num_copies: int, graph: Graph) -> None:
        self._graph = graph
        self._offsets = graph.offsets
        agents_N1, k_K = np.arange(graph.num_agents)[:, None], np.arange(graph.num_edges)
        self._sent = (agents_N1 - np.array(graph.offsets)) % graph.num_agents, k_K
        """[N, K] and [K] of agent i's in-edge k, whose out-edge it is and of which number."""
        self._num_copies = num_copies
        self._bits = bits = graph.edge_bits
        shape = (num_copies, graph.num_agents)
        self.out_EN = bits.zeros(*shape)
        """Out-edges that agents use in this tick, as far as they have said so."""
        self.says_EN: BoolArray = np.zeros(shape, dtype=np.bool_)
        """Agents whose beacon was news in this tick, and so is under way."""
        self.in_EN = bits.zeros(*shape)
        """In-edges over which a message is under way."""
        self.peers_EN = bits.zeros(*shape)
        """Out-neighbours that took part in the last step; see also `peers_near`."""
        self.beacons_EN = bits.zeros(*shape)
        """Out-neighbours of which a beacon is under way."""

    def fits(self, out_masks: MaskArray) -> bool:
        """Whether an agent's [E, *W] out-masks have the right shape and width."""
        return self._bits.fit(out_masks, self._num_copies)

    def exist(self, out_masks: MaskArray) -> bool:
        """Whether out-masks name edges of the backbone alone."""
        return self._bits.exist(out_masks)

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
        """[E, N, *W] where the graph moves: `peers_EN`, but for those who are no neighbours in this
        step. In the first step of an episode nobody has been heard, and all neighbours count as
        there.

        Args:
            neighbours_ENN: who is whose neighbour, as the environment sees it now.
            first_E: copies in which an episode begins.
        """
        near_EN = self._bits.pack(self._graph.edges_of(neighbours_ENN))
        begins = first_E.reshape(-1, *[1] * (near_EN.ndim - 1))
        return np.where(begins, near_EN, near_EN & self.peers_EN)

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
        spared_EN = np.ones(self.says_EN.shape, dtype=np.bool_)
        spared_EN[:, list(victims)] = False
        self.in_EN &= self._turn_to_receivers(np.multiply.outer(spared_EN, self._bits.every))
        self.peers_EN &= self.turn_to_senders(spared_EN)
        self.beacons_EN &= self.turn_to_senders(spared_EN)

    def _turn_to_receivers(self, masks_EN: MaskArray) -> MaskArray:
        """[E, N, *W] out-masks of senders -> in-masks: bit k of agent i is bit k of i - offset
        k.
        """
        if not self._bits.are_few:
            senders_NK, k_K = self._sent
            return self._bits.pack(self._bits.unpack(masks_EN)[:, senders_NK, k_K])
        turned = np.zeros_like(masks_EN)
        for offset, bit in zip(self._offsets, self._bits.of_each, strict=True):
            turned |= np.roll(masks_EN, offset, axis=1) & bit
        return turned

    def turn_to_senders(self, present_EN: BoolArray) -> MaskArray:
        """[E, N, *W] bit k of agent i: its out-neighbour i + offset k was there."""
        if not self._bits.are_few:
            return self._bits.pack(self._graph.edges_of_ends(present_EN))
        masks = self._bits.zeros(*present_EN.shape)
        for offset, bit in zip(self._offsets, self._bits.of_each, strict=True):
            masks |= np.roll(present_EN, -offset, axis=1) * bit
        return masks
