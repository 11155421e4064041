"""What an agent's step costs with sparse weights: dense numpy, without dead units, sparse products.

    python -m tests.benchmarks.sparse_inference [policy.safetensors ...]

Battle's shapes, 100 agents, masks at random (Erdős–Rényi) unless policies are given. Times are
processor time (other processes may be about), lower quartiles of laps that alternate between the
kinds. Private bytes are those of a forked process that has built an agent and acted.

SciPy is no dependency of ours: without it its rows are left out.

Dimension key: E = copies, I = inputs, O = outputs.
"""

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from agents import version as versions
from agents.comm.sops import Sops
from agents.dead_units import LivingUnits, Tensors
from agents.policy import PolicySpec, initialise, load_policy, views
from agents.version import PolicyVersion
from configs.arrays import FloatArray
from configs.load import preset_for
from configs.schema import NetworkConfig
from envs.registry import spec_of
from learner.sparse.allocation import numbers_of_links
from learner.sparse.masks import draw
from runtime.net import topology

AGENTS = 100
COPIES = (1, 8, 32)
SPARSITIES = (0.0, 0.9, 0.95)
DEAD_SHARES = (0.25, 0.5)
GROUP = 4
"""Neighbouring inputs in a block, or of n:m."""
LAPS, REPEATS = 60, 10

Product = Callable[[FloatArray], FloatArray]


def battle_spec() -> PolicySpec:
    env = spec_of(preset_for("battle").env, AGENTS)
    return PolicySpec.of(NetworkConfig(), env.observation_dim, env.num_actions)


def sparse_policy(spec: PolicySpec, sparsity: float) -> FloatArray:
    """An untrained policy, masked at random."""
    rng = np.random.default_rng(0)
    flat = initialise(spec, rng)
    matrices = [t for name, t in views(spec, flat).items() if "weight" in name]
    shapes = [(t.shape[0], t.shape[1]) for t in matrices]
    if sparsity:
        links = numbers_of_links(shapes, 1.0 - sparsity, "erdos-renyi")
        for tensor, shape, number in zip(matrices, shapes, links, strict=True):
            tensor *= draw(shape, number, "unstructured", GROUP, rng)
    return flat


def with_dead_units(spec: PolicySpec, share: float) -> FloatArray:
    """Whole units absent in every hidden layer, all other weights present."""
    flat = initialise(spec, np.random.default_rng(0))
    t = views(spec, flat)
    dead = slice(0, round(share * spec.hidden))
    for layer in ("query", "message", "q_hidden", "beacon", "gru"):
        weight = t["gru.weight_hh" if layer == "gru" else f"{layer}.weight"]
        weight[:, dead] = 0.0
    for reader in ("gru.weight_ih", "q_out.weight"):
        t[reader][:, dead] = 0.0
    t["scorer_out.weight"][:, : round(share * spec.scorer)] = 0.0
    return flat


# --- steps ----------------------------------------------------------------------------------------


def whole_network(spec: PolicySpec, flat: FloatArray) -> PolicyVersion:
    """The network with its dead units."""

    def keep_all(_spec: PolicySpec, tensors: Tensors) -> LivingUnits:
        return LivingUnits(tensors, np.arange(spec.hidden))

    original = versions.without_dead_units
    versions.without_dead_units = keep_all
    try:
        return PolicyVersion(spec, flat, AGENTS)
    finally:
        versions.without_dead_units = original


def step_of(network: PolicyVersion, spec: PolicySpec, copies: int) -> Callable[[], object]:
    """A step of an agent all of whose in-edges are open, without packets."""
    rng, offsets = np.random.default_rng(1), len(topology.offsets(AGENTS))

    def normal(*shape: int) -> FloatArray:
        return rng.normal(size=shape).astype(np.float32)

    observation_ED, hidden_EH = normal(copies, spec.observation_dim), network.begin(copies)
    tokens, peers = normal(copies, offsets + 1, spec.message), normal(copies, offsets, spec.beacon)
    before = network.parts(hidden_EH)

    sops = network.scheme
    assert isinstance(sops, Sops)

    def step() -> FloatArray:
        parts_EP = network.parts(network.recur(observation_ED, hidden_EH, before))
        sops.scorer(sops.beacon(parts_EP), peers)
        message_EM = sops.message_of(parts_EP, sops.attend(parts_EP, tokens, None))
        return network.q_values(parts_EP, message_EM)

    return step


def time_us(kinds: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    laps: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(LAPS):
        for name, call in kinds.items():
            began = time.process_time_ns()
            for _ in range(REPEATS):
                call()
            laps[name].append((time.process_time_ns() - began) / REPEATS / 1e3)
    return {name: float(np.quantile(values, 0.25)) for name, values in laps.items()}


def matrix_bytes(network: PolicyVersion) -> int:
    """Of everything that the network has made from the vector."""
    arrays: list[NDArray[Any]] = []
    sops = network.scheme
    assert isinstance(sops, Sops)
    owners = (network, network.network, sops, sops.scorer)
    for part in (value for owner in owners for value in vars(owner).values()):
        candidates = cast("tuple[object, ...]", part) if isinstance(part, tuple) else (part,)
        arrays += [array for array in candidates if isinstance(array, np.ndarray)]
    return sum(array.nbytes for array in arrays)


def private_kib(work: Callable[[], object]) -> int:
    """KiB that a forked process has for itself after `work`, beyond one that does nothing."""
    sizes: list[int] = []
    for task in (lambda: None, work):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            kept = task()
            rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
            size = sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))
            os.write(write, str(size).encode())
            del kept
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            sizes.append(int(pipe.read()))
        os.waitpid(pid, 0)
    return sizes[1] - sizes[0]


# --- products -------------------------------------------------------------------------------------


def products_of(network: PolicyVersion) -> list[FloatArray]:
    """[I, O] the matrices of a step's six products."""
    names = ("_encoder", "_gru_input", "_parts_HP", "_heard", "_said", "_q_out")
    found = [vars(network)[name] for name in names]
    return [part[0] if isinstance(part, tuple) else part for part in found]


def dense_product(weight_IO: FloatArray) -> Product:
    return lambda x_EI: np.dot(x_EI, weight_IO)


def csr_product(weight_IO: FloatArray) -> Product:
    """SciPy's compressed sparse rows."""
    sparse: Any = importlib.import_module("scipy.sparse")
    weight_OI = sparse.csr_array(np.ascontiguousarray(weight_IO.T))
    return lambda x_EI: (weight_OI @ x_EI.T).T


def block_product(weight_IO: FloatArray) -> Product:
    """SciPy's block sparse rows: GROUP neighbouring inputs of a unit together."""
    sparse: Any = importlib.import_module("scipy.sparse")
    inputs = weight_IO.shape[0] // GROUP * GROUP
    weight_OI = sparse.bsr_array(np.ascontiguousarray(weight_IO[:inputs].T), blocksize=(1, GROUP))
    return lambda x_EI: (weight_OI @ np.ascontiguousarray(x_EI[:, :inputs].T)).T


def gather_product(weight_IO: FloatArray) -> Product:
    """As many inputs for every unit, as n:m masks give: taken together and summed by numpy."""
    number = max(round(np.count_nonzero(weight_IO) / weight_IO.shape[1]), 1)
    index_OK = np.argsort(weight_IO == 0.0, axis=0, kind="stable")[:number].T.copy()
    weight_OK = np.take_along_axis(weight_IO, index_OK.T, axis=0).T.copy()
    return lambda x_EI: np.einsum("eok,ok->eo", x_EI[:, index_OK], weight_OK)


def main() -> None:
    spec = battle_spec()
    console = Console(width=120)
    policies = {f"{s:.0%} sparse": (spec, sparse_policy(spec, s)) for s in SPARSITIES}
    policies |= {f"{s:.0%} of units": (spec, with_dead_units(spec, s)) for s in DEAD_SHARES}
    for path in map(Path, sys.argv[1:]):
        policies[path.stem] = load_policy(path).spec, load_policy(path).flat

    steps = Table("policy", "hidden", "copies", "all units µs", "living µs", title="step")
    memory = Table(
        *("policy", "vector KiB", "matrices KiB", "of living units", "private KiB"),
        *("load µs", "living µs"),
        title="memory and loading",
    )
    for name, (its, flat) in policies.items():
        whole, living = whole_network(its, flat), PolicyVersion(its, flat, AGENTS)
        units = f"{living.begin(1).shape[1]} of {its.hidden}"
        for copies in COPIES:
            times = time_us(
                {"whole": step_of(whole, its, copies), "living": step_of(living, its, copies)}
            )
            steps.add_row(
                name, units, str(copies), f"{times['whole']:.0f}", f"{times['living']:.0f}"
            )

        def load(its: PolicySpec = its, flat: FloatArray = flat) -> PolicyVersion:
            return PolicyVersion(its, flat, AGENTS)

        def load_whole(its: PolicySpec = its, flat: FloatArray = flat) -> PolicyVersion:
            return whole_network(its, flat)

        def act(its: PolicySpec = its, flat: FloatArray = flat) -> object:
            own = flat.copy()  # a version is an agent's own, its first one apart
            network = PolicyVersion(its, own, AGENTS)
            step_of(network, its, 1)()
            return own, network

        loads = time_us({"whole": load_whole, "living": load})
        memory.add_row(
            name,
            *(f"{size / 1024:.0f}" for size in (flat.nbytes, matrix_bytes(whole))),
            f"{matrix_bytes(living) / 1024:.0f}",
            f"{private_kib(act)}",
            *(f"{loads[kind]:.0f}" for kind in ("whole", "living")),
        )
    console.print(steps)
    console.print(memory)

    kinds = {"dense numpy": dense_product, "gather (n:m)": gather_product}
    if importlib.util.find_spec("scipy") is not None:
        scipy_kib = private_kib(lambda: importlib.import_module("scipy.sparse"))
        console.print(f"importing scipy.sparse: {scipy_kib} KiB private")
        kinds |= {"scipy csr": csr_product, f"scipy blocks of {GROUP}": block_product}
    table = Table("six products, µs", "copies", *kinds)
    for sparsity in SPARSITIES:
        network = whole_network(spec, sparse_policy(spec, sparsity))
        for copies in COPIES:
            rng = np.random.default_rng(1)
            inputs = [
                rng.normal(size=(copies, len(weight_IO))).astype(np.float32)
                for weight_IO in products_of(network)
            ]
            made = {name: [kind(w) for w in products_of(network)] for name, kind in kinds.items()}

            def run(products: list[Product], inputs: list[FloatArray] = inputs) -> list[FloatArray]:
                return [product(x) for product, x in zip(products, inputs, strict=True)]

            times = time_us({name: partial(run, products) for name, products in made.items()})
            table.add_row(
                f"{sparsity:.0%} sparse", str(copies), *(f"{times[name]:.0f}" for name in kinds)
            )
    console.print(table)


if __name__ == "__main__":
    main()
