"""Which edges exist in a run, and whether neighbours move: matters of the communication scheme."""

from agents.found import scheme_of
from configs.options import read
from runtime.net.topology import Graph


def graph_of(comm: str, options: str, num_agents: int) -> Graph:
    """The graph of a scheme.

    Args:
        comm: name of the scheme.
        options: its own, as text.

    Raises:
        ValueError: the scheme does not take these options, or this many agents.
    """
    scheme = scheme_of(comm)
    return scheme.graph(num_agents, read(scheme.Options, options, "--comm.options"))


def moves(comm: str, options: str) -> bool:
    """Whether a scheme's graph moves with the agents.

    Raises:
        ValueError: the scheme does not take these options.
    """
    scheme = scheme_of(comm)
    return scheme.moves(read(scheme.Options, options, "--comm.options"))
