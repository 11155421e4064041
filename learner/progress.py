"""How far a learner has come: counters that its checkpoints keep."""

from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """Counters that outlive a process."""

    env_steps: int = 0
    """Training steps of all copies, as far as the learner has heard of them."""
    episodes: int = 0
    gradient_steps: int = 0
    skipped_steps: int = 0
    """Gradient steps not taken because the loss or the gradient was not finite."""
