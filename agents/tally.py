"""What an agent has counted since it began, for the heartbeat."""

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """What happened so far, for the heartbeat."""

    agent_steps: int = 0
    """Steps of copies in which the agent was alive."""
    edge_slots: int = 0
    """agent_steps × offsets: messages if every edge were always open."""
    edges_open: int = 0
    late: int = 0
    """Packets that were under way and missed the deadline; in real time those that came after the
    step that they were meant for."""
    lost_messages: int = 0
    """Message vectors that arrived and fell to link loss."""
    lost_beacons: int = 0
    snapshots_requested: int = 0
