"""Actions that the environment does not allow, in what a network says of all actions."""

from torch import Tensor

FORBIDDEN = -1e8
"""Value, or logit, of an action that the environment does not allow: below any that is learned, and
finite, so that sums and differences stay numbers."""


def forbidding(said: Tensor, allowed: Tensor) -> Tensor:
    """The same with FORBIDDEN where an action is not allowed: it never wins a maximum, and no
    policy draws it. Where nothing is allowed, nobody acts, and nothing changes.

    Args:
        said: [..., A] values or logits.
        allowed: [..., A] bool
    """
    nobody = ~allowed.any(-1, keepdim=True)
    return said.masked_fill(~(allowed | nobody), FORBIDDEN)
