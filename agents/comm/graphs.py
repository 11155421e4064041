"""Which edges exist in a run: a matter of the communication scheme."""

from runtime.net.topology import Graph, exponential


def graph_of(comm: str, options: str, num_agents: int) -> Graph:
    """The graph of a scheme.

    Args:
        comm: name of the scheme.
        options: its own, as text.

    Raises:
        ValueError: the scheme does not take this many agents.
    """
    del comm, options  # the schemes that exist share the backbone
    return exponential(num_agents)
