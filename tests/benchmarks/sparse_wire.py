"""What a policy version weighs on the wire, by sparsity and by how it is coded.

    python -m tests.benchmarks.sparse_wire

One training for each sparsity (tests/benchmarks/sparse_training.py) is published in every way at
once; frames are those of runtime/net/wire.py, and each is applied by a ParameterStore and compared.
"""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from agents.parameters import Outcome, ParameterStore
from agents.policy import PolicySpec
from agents.sparse_parameters import Masked
from configs.arrays import BoolArray
from configs.schema import PublishDtype, PublishMode
from learner.publish import Publisher
from runtime.net import wire
from runtime.net.masks import pack_mask
from tests.benchmarks.sparse_training import battle_config, battle_policy, versions

SPARSITIES = (0.0, 0.8, 0.9, 0.95, 0.99)
VERSIONS = 20
WAYS: tuple[tuple[PublishMode, PublishDtype], ...] = (
    ("dense", "float32"),
    ("dense", "float16"),
    ("delta", "float32"),
    ("sparse", "float32"),
    ("sparse", "float16"),
)


class Way(NamedTuple):
    """One way to publish a training."""

    whole_bytes: int
    """The last version for somebody new."""
    still_bytes: float
    """Mean of versions with the topology of the one before."""
    moved_bytes: float
    """Mean of those with another one; not a number without."""
    publish_us: float
    apply_us: float
    """Processor time, coding included; medians."""


def publish(training: list[Masked], mode: PublishMode, dtype: PublishDtype) -> Way:
    first = training[0]
    publisher = Publisher(first.flat, mode, mask=first.mask, dtype=dtype)
    store = ParameterStore(np.zeros_like(first.flat), 0)
    store.apply(publisher.snapshot())
    sizes: dict[bool, list[int]] = {True: [], False: []}
    laps: list[tuple[int, int, int]] = []
    for before, (flat, mask) in pairwise(training):
        began = time.process_time_ns()
        frame = wire.encode(publisher.publish(flat, mask))
        sent = time.process_time_ns()
        packet = wire.decode(frame)
        assert isinstance(packet, wire.Parameters)
        outcome = store.apply(packet)
        laps.append((began, sent, time.process_time_ns()))
        sizes[np.array_equal(mask, before.mask)].append(len(frame))
        if outcome is not Outcome.APPLIED or store.flat.tobytes() != publisher.flat.tobytes():
            raise ArithmeticError(f"{mode} {dtype}: what arrived is not what was published")
    publish_us, apply_us = np.median(np.diff(laps, axis=1), axis=0) / 1e3
    whole = len(wire.encode(publisher.snapshot()))
    moved_bytes = float(np.mean(sizes[False])) if sizes[False] else float("nan")
    return Way(whole, float(np.mean(sizes[True])), moved_bytes, publish_us, apply_us)


def bitmap_bytes(mask_P: BoolArray, _: PolicySpec) -> int:
    return len(np.packbits(mask_P))


def gap_bytes(mask_P: BoolArray, _: PolicySpec) -> int:
    """Of `runtime.net.masks` where gaps are the smaller form, and by the same formula elsewhere."""
    gaps = np.diff(np.flatnonzero(mask_P), prepend=-1) - 1
    return int(sum((gaps >= 1 << 7 * place).sum() for place in range(1, 4)) + gaps.size)


def row_bytes(mask_P: BoolArray, spec: PolicySpec) -> int:
    """Compressed sparse rows: a count for each row of a matrix, a column for each entry, an octet
    each (two where a row is longer than 256); vectors are rows.
    """
    size, start = 0, 0
    for _, shape in spec.layout:
        stop = start + int(np.prod(shape))
        octets = 1 if shape[-1] <= 256 else 2
        rows = shape[0] if len(shape) == 2 else 1
        size += octets * (rows + int(np.count_nonzero(mask_P[start:stop])))
        start = stop
    return size


MASK_CODES: dict[str, Callable[[BoolArray, PolicySpec], int]] = {
    "bitmap": bitmap_bytes,
    "gaps": gap_bytes,
    "rows": row_bytes,
}


def main() -> None:
    spec = battle_policy(battle_config(0.0))
    dense_bytes = 4 * spec.size
    codes = Table("sparsity", "weights", *MASK_CODES, "chosen", title="mask, % of dense float32")
    ways = Table(
        *("sparsity", "published", "bytes", "% of dense", "topology moved", "whole"),
        *("publish µs", "apply µs"),
        title=f"versions of {spec.size} parameters",
    )
    for sparsity in SPARSITIES:
        training = list(versions(sparsity, VERSIONS))
        mask = training[-1].mask
        sizes = {name: code(mask, spec) for name, code in MASK_CODES.items()}
        codes.add_row(
            f"{sparsity:.0%}",
            str(np.count_nonzero(mask)),
            *(f"{size / dense_bytes:.2%}" for size in sizes.values()),
            f"{pack_mask(mask).size / dense_bytes:.2%}",
        )
        for mode, dtype in WAYS:
            way = publish(training, mode, dtype)
            ways.add_row(
                f"{sparsity:.0%}",
                f"{mode} {dtype}",
                f"{way.still_bytes:.0f}",
                f"{way.still_bytes / dense_bytes:.1%}",
                f"{way.moved_bytes / dense_bytes:.1%}" if sparsity else "",
                f"{way.whole_bytes / dense_bytes:.1%}",
                f"{way.publish_us:.0f}",
                f"{way.apply_us:.0f}",
            )
    Console().print(codes)
    Console().print(ways)


if __name__ == "__main__":
    main()
