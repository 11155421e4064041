"""What the learner's process is told. The launcher imports this file, which does without torch."""

from dataclasses import dataclass
from pathlib import Path

from configs.arrays import FloatArray
from configs.schema import RunConfig
from learner.experience.episode import Dimensions
from runtime.net.security import Keyring


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LearnerSetup:
    """All that the learner's process is told."""

    config: RunConfig
    dimensions: Dimensions
    initial: FloatArray
    """[P] parameters to begin with; a checkpoint that is resumed from replaces them."""
    initial_version: int
    """Version that agents know them by."""
    incarnation: int
    """How many times this run has started a learner before."""
    launcher_endpoint: str
    bind_endpoint: str
    """Where agents, world and nodes connect, such as ipc://FOLDER/learner or tcp://127.0.0.1:*."""
    keyring: Keyring | None = None
    """Keys of a run across hosts; None if everything is on this machine."""
    checkpoint: Path
    resume: bool
    """Continue from `checkpoint`."""
    run_dir: Path
    logs: Path
