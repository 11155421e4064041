"""Networks of which only a share of the weights ever exists."""

from dataclasses import dataclass
from typing import Annotated, Literal

from configs.ranges import between, check_ranges, within
from configs.schema.choices import SparseLayer
from configs.schema.fields import AS_SPARSITY, require
from configs.schema.limits import MAX_UPDATES


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseConfig:
    """Networks of which only a share of the weights ever exists (learner/sparse/)."""

    method: Literal["none", "static", "set", "rigl"] = "none"
    """none: dense; static: the links drawn at the start stay; set: the weakest are replaced by
    chance; rigl: by those with the largest gradient (algorithm 1 of MAST)."""

    sparsity: Annotated[float, within(0.0, 1.0, below_high=True)] = 0.9
    """Share of zeros among the weights that are masked together; biases do not count."""

    allocation: Literal["erdos-renyi", "uniform"] = "erdos-renyi"
    """How links are shared out to layers: erdos-renyi gives small ones more, uniform all alike."""

    policy: Annotated[float, within(0.0, 1.0, below_high=True, other=AS_SPARSITY)] = -1.0
    """Sparsity of the agents' networks by themselves; -1: `sparsity`. With this or `mixer` given
    the two are masked apart, with neither all weights of both share one total."""

    mixer: Annotated[float, within(0.0, 1.0, below_high=True, other=AS_SPARSITY)] = -1.0
    """Sparsity of the mixers and their hypernetworks by themselves; -1: `sparsity`."""

    dense: tuple[SparseLayer, ...] = ()
    """Layers that keep all their weights, or groups of such: scorer, messages, mixer. They do not
    count in `sparsity`."""

    initial: Literal["dense", "scaled"] = "dense"
    """Weights at the start: dense takes those of the dense network as they are (MAST, algorithm 2);
    scaled multiplies each unit's by sqrt(inputs / links), so that what it hears varies as much as
    in the dense network. A policy that has been trained keeps its own."""

    fraction: Annotated[float, within(0.0, 1.0)] = 0.5
    """Share ζ0 of a layer's links that the first evolution replaces; it falls as a cosine to 0."""

    period: Annotated[int, between(1, MAX_UPDATES)] = 200
    """Gradient steps between two evolutions of the topology."""

    end: Annotated[int, between(0, MAX_UPDATES)] = 0
    """Gradient steps after which the topology stays; 0 evolves it to the end of the run's steps."""

    pattern: Literal["unstructured", "block", "n:m"] = "unstructured"
    """block: `group` neighbouring inputs of a unit have their weights together or not at all; n:m:
    of every `group` neighbouring inputs the same number has weights, which comes near the sparsity
    asked for but seldom to it: the learner's log says what came of it."""

    group: Annotated[int, between(1, 256)] = 4
    """Neighbouring inputs in a block, or M of n:m; in layers whose inputs it does not divide the
    next smaller number that does."""

    def __post_init__(self) -> None:
        check_ranges(self, "sparse")
        own = (self.policy, self.mixer)
        shares = own if -1.0 not in own else (self.sparsity, *own)
        for share in shares:
            require(
                self.pattern != "n:m" or share == -1.0 or (1.0 - share) * self.group > 0.4999,
                f"sparse.pattern n:m keeps at least one weight of a group: with sparsity {share} "
                f"give sparse.group more than {self.group}",
            )
