"""Initialisers of weights and biases, in the manner of `jax.nn.initializers`.

With inputs x of N_in numbers (of a convolution: those that one output sees), weights W give
pre-activations of variance σw² |x|²/N_in, whatever the distribution:

    gaussian            W_ij ~ N(0, σw²/N_in),
    uniform             W_ij uniform on ±√3 σw/√N_in,
    truncated_normal    W_ij normal within ±2 of its own standard deviations, which is σw/√N_in
                        divided by 0.8796, what the cut leaves of it,
    orthogonal          W = σw Q, Q uniform over matrices with orthonormal rows or columns; with
                        more outputs than inputs times √(N_out/N_in),
    delta_orthogonal    such a Q in the middle of a convolution's kernel, 0 elsewhere [1].

For wide networks the first three are one: theory takes them all for the ensemble "gaussian".

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
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import NON_NEGATIVE, POSITIVE
from meanfield.arguments import count, illegal, integer, single
from meanfield.errors import MeanFieldError, unknown_name
from meanfield.typing import Array

Distribution = Literal["gaussian", "uniform", "truncated_normal", "orthogonal", "delta_orthogonal"]
Initializer = Callable[..., Array]
# What a normal distribution that is cut at ±2 keeps of its standard deviation.
CUT = 2.0
KEPT = math.sqrt(
    1 - 2 * CUT * math.exp(-(CUT**2) / 2) / math.sqrt(2 * math.pi) / math.erf(CUT / math.sqrt(2))
)


def _uniform(key: Any, shape: tuple[int, ...]) -> Array:
    return math.sqrt(3) * jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


def _truncated(key: Any, shape: tuple[int, ...]) -> Array:
    return jax.random.truncated_normal(key, -CUT, CUT, shape) / KEPT


# Independent numbers of variance 1.
IID: dict[str, Callable[[Any, tuple[int, ...]], Array]] = {
    "gaussian": jax.random.normal,
    "uniform": _uniform,
    "truncated_normal": _truncated,
}


def weights(
    sigma_w: float,
    distribution: Distribution = "gaussian",
    in_axis: int = -2,
    out_axis: int = -1,
) -> Initializer:
    """Return init(key, shape, dtype, out_sharding) for weights of standard deviation σw/√N_in.

    Parameters
    ----------
    sigma_w : one finite number >= 0, not traced.
    distribution : see above; "delta_orthogonal" is for kernels with an axis besides the two.
    in_axis, out_axis : where inputs and outputs lie; all other axes are those of a kernel.

    Raises `MeanFieldError` for what is not legal; `init` does so for shapes that have no such axes
    or no inputs, and for a dtype that holds no fractions.
    """
    sigma_w = single("sigma_w", sigma_w, NON_NEGATIVE)
    require_distribution(distribution)
    in_axis, out_axis = _axis("in_axis", in_axis), _axis("out_axis", out_axis)

    def init(
        key: Any, shape: tuple[int, ...], dtype: Any = None, out_sharding: Any = None
    ) -> Array:
        shape, dtype = _shape(shape), _dtype(dtype)
        kernel = _kernel(shape, in_axis, out_axis)
        size, inputs, outputs = math.prod(kernel), shape[in_axis], shape[out_axis]
        if not size * inputs:
            raise illegal("shape", shape, "that of weights with inputs")
        # Random numbers and QR are in the precision of the default; bfloat16 has neither.
        if distribution in IID:
            matrix = IID[distribution](key, (size * inputs, outputs)) / math.sqrt(size * inputs)
        elif distribution == "orthogonal":
            matrix = _orthogonal(key, size * inputs, outputs)
        else:
            if not kernel:
                raise illegal("shape", shape, "that of a kernel with axes for delta_orthogonal")
            middle = np.ravel_multi_index([(n - 1) // 2 for n in kernel], kernel)
            matrix = (
                jnp.zeros((size, inputs, outputs)).at[middle].set(_orthogonal(key, inputs, outputs))
            )
        whole = sigma_w * matrix.reshape(*kernel, inputs, outputs)
        whole = jnp.moveaxis(whole, (-2, -1), (in_axis, out_axis)).astype(dtype)
        return whole if out_sharding is None else jax.device_put(whole, out_sharding)

    return init


def biases(sigma_b: float) -> Initializer:
    """Return init(key, shape, dtype, out_sharding) for biases N(0, σb²), σb >= 0.

    Raises `MeanFieldError` for what is not legal, as `weights` does.
    """
    sigma_b = single("sigma_b", sigma_b, NON_NEGATIVE)

    def init(
        key: Any, shape: tuple[int, ...], dtype: Any = None, out_sharding: Any = None
    ) -> Array:
        drawn = (sigma_b * jax.random.normal(key, _shape(shape))).astype(_dtype(dtype))
        return drawn if out_sharding is None else jax.device_put(drawn, out_sharding)

    return init


def input_scale(q: float, sigma_b: float, second_moment: float) -> float:
    """Return the σw of a first layer that brings inputs to the variance q: √((q - σb²)/m).

    m is the second moment |x|²/N of the inputs. Raises `MeanFieldError` unless q ≥ σb², q > 0 and
    m > 0.
    """
    legal = (lambda q: (q >= sigma_b**2) & (q > 0) & (q < np.inf), "finite, > 0 and >= sigma_b²")
    q, second_moment = single("q", q, legal), single("second_moment", second_moment, POSITIVE)
    return math.sqrt((q - sigma_b**2) / second_moment)


def require_distribution(name: str) -> None:
    """Raise `MeanFieldError` for a name of no distribution."""
    if name not in get_args(Distribution):
        raise unknown_name("distribution", str(name), get_args(Distribution))


def _axis(name: str, value: Any) -> int:
    axis = integer(value)
    if axis is None:
        raise illegal(name, value, "an integer")
    return axis


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, Iterable):
        raise illegal("shape", shape, "a tuple of integers >= 0")
    return tuple(count("shape", length, 0) for length in shape)


def _dtype(dtype: Any) -> Any:
    """Return the type of numbers that are drawn, by default JAX's own."""
    try:
        kind = jnp.result_type(float) if dtype is None else jnp.dtype(dtype)
    except TypeError as error:
        raise illegal("dtype", dtype, "a floating type") from error
    if not jnp.issubdtype(kind, jnp.floating):
        raise illegal("dtype", dtype, "a floating type")
    return kind


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
