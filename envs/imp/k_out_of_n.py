"""A k-out-of-n system: it works as long as k of its components do.

failure probabilities [N] -> product of (1 - p + p x), up to x^(n-k) -> 1 - sum of coefficients

Dimension key: X = whatever is computed at once, N = components.
"""

import numpy as np

from envs.imp.deterioration import RealArray


def usual_k(num_components: int) -> int:
    """IMP-MARL's and ExpoComm's systems: 48 of 50, 95 of 100, all but one of a few."""
    return num_components - max(1, num_components // 20)


def failure_probability(failures_XN: RealArray, k: int) -> RealArray:
    """[X] chance that more than n - k components have failed, which fail independently.

    The factors are multiplied in pairs, so there are log2 N rounds and not N.
    """
    spare = failures_XN.shape[-1] - k
    coefficients_XNJ = np.stack((1.0 - failures_XN, failures_XN), axis=-1)
    while coefficients_XNJ.shape[-2] > 1:
        if coefficients_XNJ.shape[-2] % 2:
            one = np.zeros_like(coefficients_XNJ[..., :1, :])
            one[..., 0] = 1.0
            coefficients_XNJ = np.concatenate((coefficients_XNJ, one), axis=-2)
        left, right = coefficients_XNJ[..., ::2, :], coefficients_XNJ[..., 1::2, :]
        coefficients_XNJ = _product(left, right, spare + 1)
    return 1.0 - coefficients_XNJ[..., 0, : spare + 1].sum(-1)


def _product(left: RealArray, right: RealArray, most: int) -> RealArray:
    """Of two polynomials, its first `most` coefficients."""
    size = left.shape[-1]
    length = min(2 * size - 1, most)
    product = np.zeros((*left.shape[:-1], length))
    for j in range(min(size, length)):
        upto = min(size, length - j)
        product[..., j : j + upto] += left[..., j : j + 1] * right[..., :upto]
    return product
