"""The backbone: the exponential graph on a ring of N agents (SOPS, equation 1).

Agent i may send to (i + 2^k) mod N and may hear from (i - 2^k) mod N, for every power of two up to
N - 1. There are K = floor(log2(N - 1)) + 1 offsets. The self-loop is always there
and costs nothing.
"""


def offsets(num_agents: int) -> tuple[int, ...]:
    """Powers of two up to N - 1, ascending: N = 20 gives (1, 2, 4, 8, 16).

    Raises:
        ValueError: fewer than two agents have no edges.
    """
    if num_agents < 2:
        raise ValueError(f"a backbone needs at least 2 agents, got {num_agents}")
    return tuple(1 << k for k in range((num_agents - 1).bit_length()))


def out_neighbours(agent: int, num_agents: int) -> tuple[int, ...]:
    """[K] agents that `agent` may send to, by offset."""
    return tuple((agent + offset) % num_agents for offset in offsets(num_agents))


def in_neighbours(agent: int, num_agents: int) -> tuple[int, ...]:
    """[K] agents that `agent` may hear from, by offset: entry k sends over its own offset k."""
    return tuple((agent - offset) % num_agents for offset in offsets(num_agents))


def diameter(num_agents: int) -> int:
    """Steps until a message has reached every agent (breadth-first; the same from every agent).

    At most ceil(log2(N - 1)), the paper's figure, and often less: N = 16 needs 4, N = 100 needs 5.
    """
    steps = offsets(num_agents)
    hops_to = {0: 0}
    frontier: list[int] = [0]
    while frontier:
        reached = [(at + step) % num_agents for at in frontier for step in steps]
        hops = hops_to[frontier[0]] + 1
        frontier = []
        for at in reached:
            if at not in hops_to:
                hops_to[at] = hops
                frontier.append(at)
    return max(hops_to.values())
