"""Initialisers of weights and biases, in the manner of `jax.nn.initializers`.

With inputs x of N_in numbers (of a convolution: those that one output sees), weights W give
pre-activations of variance σw² |x|²/N_in, whatever the distribution:

    gaussian            W_ij ~ N(0, σw²/N_in),
    orthogonal          W = σw Q, Q uniform over matrices with orthonormal rows or columns; with
                        more outputs than inputs times √(N_out/N_in),
    delta_orthogonal    such a Q in the middle of a convolution's kernel, 0 elsewhere [1].

An initialiser sees one layer. That the network is a chain of these with one pointwise activation
between them, which is what σw and σb are made for, is up to its user; `meanfield.integrations`
looks at whole models.

Kernels have the axes (..., in, out) of Flax and Keras unless `in_axis` and `out_axis` say
otherwise.

References
----------
[1] L. Xiao et al., Dynamical isometry and a mean field theory of CNNs, ICML 2018, arXiv:1806.05393.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.errors import MeanFieldError, require, unknown_name
from meanfield.typing import Array

Distribution = Literal["gaussian", "orthogonal", "delta_orthogonal"]
Initializer = Callable[..., Array]


def weights(
    sigma_w: float,
    distribution: Distribution = "gaussian",
    in_axis: int = -2,
    out_axis: int = -1,
) -> Initializer:
    """Return init(key, shape, dtype, out_sharding) for weights of standard deviation σw/√N_in.

    Parameters
    ----------
    sigma_w : a finite number >= 0.
    distribution : see above; "delta_orthogonal" is for kernels with an axis besides the two.
    in_axis, out_axis : where inputs and outputs lie; all other axes are those of a kernel.

    Raises `MeanFieldError` for what is not legal; `init` does so for shapes that have no such axes.
    """
    require(math.isfinite(sigma_w) and sigma_w >= 0, "sigma_w", sigma_w, "a finite number >= 0")
    require_distribution(distribution)

    def init(
        key: Any, shape: tuple[int, ...], dtype: Any = None, out_sharding: Any = None
    ) -> Array:
        kernel = _kernel(shape, in_axis, out_axis)
        count, inputs, outputs = math.prod(kernel), shape[in_axis], shape[out_axis]
        # Random numbers and QR are in the precision of the default; bfloat16 has neither.
        if distribution == "gaussian":
            matrix = jax.random.normal(key, (count * inputs, outputs)) / math.sqrt(count * inputs)
        elif distribution == "orthogonal":
            matrix = _orthogonal(key, count * inputs, outputs)
        else:
            if not kernel:
                raise MeanFieldError(
                    f"shape = {shape} is not legal; delta_orthogonal needs a kernel's axes"
                )
            middle = np.ravel_multi_index([(n - 1) // 2 for n in kernel], kernel)
            matrix = (
                jnp.zeros((count, inputs, outputs))
                .at[middle]
                .set(_orthogonal(key, inputs, outputs))
            )
        whole = sigma_w * matrix.reshape(*kernel, inputs, outputs)
        whole = jnp.moveaxis(whole, (-2, -1), (in_axis, out_axis))
        whole = whole.astype(jnp.result_type(float) if dtype is None else dtype)
        return whole if out_sharding is None else jax.device_put(whole, out_sharding)

    return init


def biases(sigma_b: float) -> Initializer:
    """Return init(key, shape, dtype, out_sharding) for biases N(0, σb²), σb >= 0."""
    require(math.isfinite(sigma_b) and sigma_b >= 0, "sigma_b", sigma_b, "a finite number >= 0")

    def init(
        key: Any, shape: tuple[int, ...], dtype: Any = None, out_sharding: Any = None
    ) -> Array:
        drawn = sigma_b * jax.random.normal(key, shape)
        drawn = drawn.astype(jnp.result_type(float) if dtype is None else dtype)
        return drawn if out_sharding is None else jax.device_put(drawn, out_sharding)

    return init


def require_distribution(name: str) -> None:
    """Raise `MeanFieldError` for a name of no distribution."""
    if name not in get_args(Distribution):
        raise unknown_name("distribution", name, get_args(Distribution))


def _kernel(shape: tuple[int, ...], in_axis: int, out_axis: int) -> tuple[int, ...]:
    size = len(shape)
    places = {axis % size for axis in (in_axis, out_axis) if -size <= axis < size}
    if len(places) < 2:
        raise MeanFieldError(
            f"shape = {tuple(shape)} is not legal; it needs the axes {in_axis} and {out_axis}"
        )
    return tuple(n for axis, n in enumerate(shape) if axis not in places)


def _orthogonal(key: Any, inputs: int, outputs: int) -> Array:
    """Return a uniform matrix of orthonormal rows or columns that keeps second moments."""
    drawn = jax.random.normal(key, (max(inputs, outputs), min(inputs, outputs)))
    q, r = jnp.linalg.qr(drawn)
    # With the signs of R's diagonal Q is uniform.
    q = q * jnp.sign(jnp.diagonal(r))
    return q if inputs >= outputs else q.T * math.sqrt(outputs / inputs)
