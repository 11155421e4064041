"""What one update of the learner is asked to do; apart from the measurement, which needs torch."""

from dataclasses import dataclass
from typing import Literal

from configs.schema.choices import Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateCase:
    agents: int
    """Of Battle."""
    unroll: Literal["ours", "plain"] = "ours"
    batch: int = 32
    steps: int = 200
    """Of every episode."""
    window: int = 0
    """Steps that an update takes of one; 0 takes it whole."""
    threads: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Precision = "float32"
    cuda_graph: Literal["on", "off"] = "off"
    as_trained: bool = False
    """As an update of the preset is in mid-training: with teacher and price, and half of the agents
    dead on average (in journals of training runs 0.43 to 0.49 of the agent-steps are lived)."""
    updates: int = 2
    """Measured, after those that are not: a first one touches its memory for the first time, and
    a second and third are looked at and recorded if they are to be replayed."""

    @property
    def warm_up(self) -> int:
        """Updates before those that are measured."""
        return 4 if self.cuda_graph == "on" else 1


KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1),
    "MALLOC_TOP_PAD_": str(1 << 28),
    "MALLOC_ARENA_MAX": "1",
}
"""Environment in which glibc keeps freed memory, as the learner's process asks it to."""
