"""GACG, the group-aware coordination graph: a baseline of SOPS, computed in one place.

    observations of all -> embeddings -> attention of each pair: means of the edges ─┐
    last observations of each -> its group: edges into a group vary together ────────┴-> edges
    edges -> two graph convolutions over the embeddings -> message -> Q head

After Duan, Lu and Xuan (2024), arXiv 2404.10976. Edges are Gaussian: the mean is the attention that
agent i pays to j, and the edges from i to the agents of one group vary together (learner/comm/
gacg.py has the equations). Every agent's embedding has to reach every other in the same step, so
communication is dense and there is no decentralised execution (agents/comm/centralised.py).

What the paper describes is implemented, and the released code (github.com/Wei9711/GACG, bb695af)
does not do all of it:

    edges             drawn by `.sample()`: no gradient reaches the attention. Here they are
                      mean + noise, so it does.
    groups            an argmax of a network that is in no optimiser: never trained. Here a
                      straight-through one-hot, trained by the loss and by the group distance.
    group distance    of values that were turned into floats: a constant. Here it has a gradient.
    range of edges    brought to [0, 1] over a whole batch, so that an episode's graph depends on
                      the others. Here over each graph.
    tests             edges are drawn in tests too. Here a test takes the means.

Two choices are ours. A covariance of 1, as released, drowns means that add up to 1 over all agents;
`spread` is the standard deviation. And a message joins the Q head, as in all schemes here, where
the release feeds it to the recurrent layer; a convolution averages over the edges, so that a policy
runs at any number of agents.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.comm.centralised import Centralised
from agents.layers import Layout
from runtime.net.topology import Graph

if TYPE_CHECKING:
    from agents.policy import PolicySpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    groups: int = 2
    """Groups that agents are divided into."""
    trajectory: int = 10
    """Observations of an agent by which its group is found; before there are as many, edges vary
    each by itself."""
    spread: float = 0.1
    """Standard deviation of an edge in training; as released it is 1."""
    group_loss: float = 0.01
    """Weight of the group distance in the loss, as released; 0 leaves it out."""

    def __post_init__(self) -> None:
        for name, low, high in (("groups", 1, 64), ("trajectory", 1, 100)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"{name} must be between {low} and {high}, got {getattr(self, name)}"
                )
        for name in ("spread", "group_loss"):
            if not 0.0 <= getattr(self, name) <= 1000.0:
                raise ValueError(f"{name} must be in [0, 1000], got {getattr(self, name)}")


class Gacg(Centralised):
    """What is known of it without torch."""

    Options = Options
    twin = "learner.comm.gacg:GacgTwin"

    @classmethod
    def layout(cls, spec: "PolicySpec") -> Layout:
        options: Options = spec.scheme_opts()
        seen, hidden, embedding = spec.observation_dim, spec.hidden, spec.attention
        return (
            ("embed_hidden.weight", (hidden, seen)),
            ("embed_hidden.bias", (hidden,)),
            ("embed_out.weight", (embedding, hidden)),
            ("embed_out.bias", (embedding,)),
            ("pair.weight", (embedding, embedding)),
            ("first_convolution.weight", (spec.message, embedding)),
            ("first_convolution.bias", (spec.message,)),
            ("second_convolution.weight", (spec.message, spec.message)),
            ("second_convolution.bias", (spec.message,)),
            ("group_hidden.weight", (hidden, options.trajectory * seen)),
            ("group_hidden.bias", (hidden,)),
            ("group_out.weight", (options.groups, hidden)),
            ("group_out.bias", (options.groups,)),
        )

    @classmethod
    def graph(cls, num_agents: int, options: Any) -> Graph:
        return Graph(num_agents, tuple(range(1, num_agents)), wired=False)


SCHEME = Gacg
