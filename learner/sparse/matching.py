"""Small dense networks with as many parameters as the sparse ones: "tiny" in MAST's table 1.

    sparse run -> parameters of each network that exist -> sizes of dense networks that match

Biases count on both sides. All sizes of a network shrink by the same factor, except that the second
one may be a few units off: one unit more of a small network's hidden layer alone is a tenth of it.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch

from agents.policy import PolicySpec, initialise
from configs import streams
from configs.algorithms.described import describe, traits_of, with_sizes
from configs.schema import RunConfig, SparseConfig
from configs.streams import Role
from envs.registry import bounds_of, observation_shape_of
from learner.algorithms import options_of
from learner.experience.episode import Dimensions
from learner.learner import Learner
from learner.sparse.accounting import networks_of
from learner.sparse.layer_costs import parameters

_AROUND = (0, -1, 1, -2, 2, -3, 3)
"""Units by which the second size may leave its proportion."""

Sizes = dict[str, int]
"""Units by the keys of the configuration."""


@dataclass(frozen=True, slots=True)
class Match:
    """A dense network in place of a sparse one."""

    sizes: Sizes
    parameters: int
    wanted: int


def match(full: Sizes, count: Callable[[Sizes], int], wanted: int) -> Match:
    """The smaller sizes whose network is nearest to a number of parameters.

    Args:
        full: sizes of the large network.
        count: parameters of a network of such sizes, the more the larger they are.
        wanted: parameters.
    """
    first, *others = full

    def shrunk(units: int) -> Sizes:
        return {name: max(round(size * units / full[first]), 1) for name, size in full.items()}

    units = range(1, full[first] + 1)
    at = bisect_left(units, wanted, key=lambda number: count(shrunk(number)))
    near = [shrunk(number) for number in units[max(at - 2, 0) : at + 2]]
    candidates = [
        sizes | {name: max(sizes[name] + more, 1) for name in others[:1]}
        for sizes in near
        for more in _AROUND
    ]
    best = min(candidates, key=lambda sizes: abs(count(sizes) - wanted))
    return Match(best, count(best), wanted)


def matches(config: RunConfig, dimensions: Dimensions) -> dict[str, Match]:
    """Dense networks for those of a sparse run, by part of the learner.

    Raises:
        ValueError: the run is not sparse.
    """
    if config.sparse.method == "none":
        raise ValueError("sparse.method is none: there is nothing to match")
    network, learner = config.network, config.learner
    spec = PolicySpec.of(
        network,
        dimensions.observation_dim,
        dimensions.num_actions,
        comm=config.comm,
        comm_options=config.comm_options,
        observation_shape=observation_shape_of(config),
        bounds=bounds_of(config) if dimensions.action_dim else None,
    )
    sparse = replace(config, policy="", learner=replace(learner, teacher="", device="cpu"))
    flat = initialise(spec, streams.generator(config.seed, Role.POLICY))
    full = Learner(sparse, spec, dimensions, flat)
    links = networks_of(full, sparse)
    algorithm = full.algorithm
    policy: Sizes = {
        name: getattr(network, name)
        for name in ("hidden", "message", "attention", "beacon", "edge_embedding", "scorer")
    }

    def of_part(part: str) -> Callable[[Sizes], int]:
        def count(sizes: Sizes) -> int:
            run = replace(sparse, learner=with_sizes(learner, sizes))
            setup = replace(algorithm.setup, run=run, options=options_of(run.learner))
            # On the device without memory: parameters are counted and never used.
            with torch.device("meta"):
                return sum(p.numel() for p in algorithm.parts(setup)[part].parameters())

        return count

    found = {
        "policy": match(policy, lambda sizes: replace(spec, **sizes).size, parameters(links.agent))
    }
    own = describe(learner.algorithm, learner.options).options
    sizes_there: dict[str, int] = {**asdict(learner), **own}
    for part, names in traits_of(learner).sizes.items():
        sizes = {name: sizes_there[name] for name in names}
        found[part] = match(sizes, of_part(part), parameters(links.parts[part]))
    return found


def tiny(config: RunConfig, found: dict[str, Match]) -> RunConfig:
    """The dense run of these sizes."""
    of_learner = {
        key: size
        for part, one in found.items()
        if part != "policy"
        for key, size in one.sizes.items()
    }
    return replace(
        config,
        sparse=SparseConfig(),
        network=replace(config.network, **found["policy"].sizes),
        learner=with_sizes(config.learner, of_learner),
    )
