"""Names of array types; shapes are in the names of variables."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
HalfArray: TypeAlias = NDArray[np.float16]
BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int64]

Bounds = tuple[tuple[float, ...], tuple[float, ...]]
"""Of each of the real numbers that make up an action, the lower ones first."""
