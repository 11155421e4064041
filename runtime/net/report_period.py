"""How often agents report to their node.

A report costs its agent and the node about as much as a message does its sender and its receiver.
Once a second is nothing for a hundred agents; a thousand would spend a fifth of two cores on it.
"""

SHORTEST_S = 1.0
MOST_PER_S = 250
"""Reports that a node takes in a second."""


def report_period_s(num_agents: int) -> float:
    """Seconds between two reports of an agent: 1 for up to 250 agents, 4 for a thousand."""
    return max(SHORTEST_S, num_agents / MOST_PER_S)
