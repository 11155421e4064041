"""The ranks behind the first: gradients of the rows they are handed, and the same steps.

Order, rows -> gradient -> exchange -> Adam, until rank 0 has no more or is gone
"""

import logging

from learner.checkpoint import capture, restore
from learner.learner import Learner
from learner.ranks import Ranks

logger = logging.getLogger(__name__)


def begin_together(learner: Learner, ranks: Ranks) -> None:
    """Give all ranks the state of rank 0 and have them share updates from then on."""
    content = ranks.tell(capture(learner, version=0, config="") if ranks.rank == 0 else None)
    if ranks.rank > 0:
        restore(learner, content, "of rank 0")
    learner.join(ranks)


def follow(learner: Learner, ranks: Ranks) -> None:
    """Take part in updates until there are no more.

    Args:
        learner: fresh, of the same configuration as rank 0's.
        ranks: this process among them.
    """
    try:
        begin_together(learner, ranks)
        while (told := ranks.take()) is not None:
            order, shares = told
            learner.progress.env_steps = order.env_steps
            learner.apply_gradient(learner.gradient_of(shares))
    except RuntimeError as error:
        # A connection that closed: whoever watches us sees why rank 0 went, and decides.
        logger.info("rank 0 is gone: %s", error)
