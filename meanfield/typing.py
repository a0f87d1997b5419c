"""Names for the kinds of numbers that functions take and give."""

from typing import TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array
ScalarLike: TypeAlias = float | int | np.ndarray | jax.Array
"""A real number, or an array of them where a function broadcasts."""
