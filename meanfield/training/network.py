"""The networks that are trained: dense, all hidden layers as wide and initialised alike.

Of an image x the pre-activations of L hidden layers, and the logits y of the classes, are

    h¹ = s W¹ x + b¹,    h^{l+1} = W^{l+1} φ(h^l) + b^{l+1},    y = U φ(h^L)/s + v.

Weights W have the variance σw²/N_in each, or are σw times matrices of orthonormal rows or columns
(`meanfield.init`), and biases the variance σb². Images have |x|²/N_0 = 1, and

    s² = E φ(√q* z)² = (q* - σb²)/σw²,                                          (*)

so that h¹ has the variance q* for every image: the network begins at its fixed point. (The code
of [1] multiplies pixels by √q* instead, which leaves other variances to the first layers.) U/s is
one matrix of weights, U drawn as W is but with σw = 1, and v begins at 0: logits have the variance
1 in every network. Otherwise those with a large q* would answer louder, and learn faster.

What PyTorch draws, "torch", is left as it is: s = 1, and every weight and bias, U and v included,
is uniform on ±1/√N_in, so that σw² = 1/3, σb² = 1/(3 N_in), and U has the σw of the others.

Numbers are float32. Networks with one `seed` are drawn from the same random numbers.

References
----------
[1] M. Murray, V. Abrol, J. Tanner, Activation function design for deep networks: linearity and
    effective initialisation, arXiv:2105.07741.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._struct import struct
from meanfield.activations import Activation
from meanfield.init import IID, weights
from meanfield.sweep.config import Ensemble
from meanfield.typing import Array

PRECISION = jnp.float32
Drawing = Ensemble | Literal["torch"]
TORCH = "torch"
# The variance of weights, times their number of inputs.
TORCH_VARIANCE = 1 / 3


@struct
class Weights:
    """The trained numbers of a network of L hidden layers, N units wide.

    `first` (N_0, N), `hidden` (L - 1, N, N) and `last` (N, classes) are kernels, to be multiplied
    from the left by rows of units; `biases` (L, N) and `last_biases` (classes,) are added.
    """

    first: Array
    hidden: Array
    last: Array
    biases: Array
    last_biases: Array


@struct
class Scales:
    """Standard deviations of weights and biases, and s of equation (*)."""

    sigma_w: Array
    sigma_b: Array
    inputs: Array


def random_streams(seed: Array) -> Any:
    """Return two keys of a seed: one for weights and biases, one for the order of images."""
    return jax.random.split(jax.random.key(seed))


@functools.partial(jax.jit, static_argnames=("inputs", "width", "depth", "classes", "ensemble"))
def draw(
    seeds: Array,
    scales: Scales,
    inputs: int,
    width: int,
    depth: int,
    classes: int,
    ensemble: Drawing,
) -> Weights:
    """Return networks as they are initialised, float32, one a row for each seed and scale.

    `inputs` is N_0, `depth` L ≥ 1.
    """
    kernel = weights(1.0, "uniform" if ensemble == TORCH else ensemble)
    # Inputs of the unit that each bias is added to, those of the last layer included.
    into = np.concatenate([np.full(width, inputs), np.full(depth * width - width + classes, width)])

    def one(network: tuple[Array, Scales]) -> Weights:
        seed, scales = network
        keys = jax.random.split(random_streams(seed)[0], depth + 2)

        def drawn(key: Array, scale: Array, rows: int, columns: int) -> Array:
            return (scale * kernel(key, (rows, columns))).astype(PRECISION)

        if ensemble == TORCH:
            last = scales.sigma_w
            biases = scales.sigma_w * IID["uniform"](keys[0], into.shape) / np.sqrt(into)
        else:
            last = 1 / scales.inputs
            biases = scales.sigma_b * jax.random.normal(keys[0], (depth * width,))
            biases = jnp.concatenate([biases, jnp.zeros(classes)])
        biases = biases.astype(PRECISION)
        return Weights(
            drawn(keys[1], scales.sigma_w, inputs, width),
            # One after another: XLA's batches of QR decompositions stand still on few threads.
            jax.lax.map(lambda key: drawn(key, scales.sigma_w, width, width), keys[3:]),
            drawn(keys[2], last, width, classes),
            biases[:-classes].reshape(depth, width),
            biases[-classes:],
        )

    return jax.lax.map(one, (seeds, scales))


def logits(phi: Activation, network: Weights, scale: Array, inputs: Array) -> Array:
    """Return y (images, classes) of images x (images, N_0), float32; `scale` is s.

    NaN or infinite where numbers overflow. Differentiable in the weights.
    """

    def layer(h: Array, kernel_and_biases: tuple[Array, Array]) -> tuple[Array, None]:
        kernel, biases = kernel_and_biases
        # An activation of a user may hold numbers in double precision.
        return phi(h).astype(PRECISION) @ kernel + biases, None

    h = scale * (inputs @ network.first) + network.biases[0]
    h, _ = jax.lax.scan(layer, h, (network.hidden, network.biases[1:]))
    return phi(h).astype(PRECISION) @ network.last + network.last_biases


def unit_inputs(pixels: np.ndarray) -> np.ndarray:
    """Return images x with |x|²/N_0 = 1, as float32."""
    pixels = pixels.astype(float)
    return np.asarray(pixels / np.sqrt(np.mean(pixels**2, axis=1, keepdims=True)), np.float32)
