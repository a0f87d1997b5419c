"""Random networks of finite width, many at once: what is drawn, and what passes forward and back.

With masks k of probability p, W^l and b^l as in `meanfield.ensemble`, and D^l = diag(k φ'(h^l)/p),

    h^l = W^l (k φ(h^{l-1})/p) + b^l,    J^l = W^l D^{l-1} J^{l-1},    δ^{l-1} = D^{l-1} W^lᵀ δ^l.

Each network has a key of its own, so that what is drawn does not depend on what is drawn together.
"""

import functools
import math

import jax
import jax.numpy as jnp

from meanfield.layers import Covariance, Dense, Ensemble
from meanfield.typing import Array

Keys = Array


@jax.jit
def network_keys(seed: Array, numbers: Array) -> Keys:
    # The generator is named: results must not depend on JAX's settings.
    key = jax.random.key(seed, impl="threefry2x32")
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)


@functools.partial(jax.jit, static_argnums=2)
def first(keys: Keys, inputs: Covariance, width: int) -> Array:
    """Return pairs of inputs, of shape (networks, 2, width)."""

    def one(key: Keys) -> Array:
        along, across = jax.random.normal(jax.random.fold_in(key, 0), (2, width))
        along = along / jnp.linalg.norm(along)
        across = across - along * (along @ across)
        length = jnp.linalg.norm(across)
        across = across / jnp.where(length > 0, length, 1.0)
        epsilon = jnp.asarray(inputs.epsilon)
        second = (1 - epsilon) * along + jnp.sqrt(epsilon * (2 - epsilon)) * across
        scales = jnp.sqrt(width * jnp.stack([inputs.q1, inputs.q2]))
        return scales[:, None] * jnp.stack([along, second])

    return jax.vmap(one)(keys)


def forward(
    layer: Dense, keys: Keys, number: int, h: Array, width: int
) -> tuple[Array, Array, Array]:
    """Return the weights of a layer, the diagonal of the first input's D, and what follows h."""
    # What is drawn and turned does not know φ: one kernel serves all.
    normal, biases, uniform = _drawn(keys, number, width, h.shape[2])
    weights = _weights(normal, layer.sigma_w, layer.ensemble)
    return weights, *_passed(layer, weights, biases, uniform, h)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _drawn(keys: Keys, number: int, rows: int, columns: int) -> tuple[Array, Array, Array]:
    """Return standard normal numbers for weights and biases, and uniform ones for masks."""

    def one(key: Keys) -> tuple[Array, Array, Array]:
        for_weights, for_biases, for_masks = jax.random.split(jax.random.fold_in(key, number), 3)
        return (
            jax.random.normal(for_weights, (rows, columns)),
            jax.random.normal(for_biases, (rows,)),
            jax.random.uniform(for_masks, (2, columns)),
        )

    return jax.vmap(one)(keys)


@functools.partial(jax.jit, static_argnums=2)
def _weights(normal: Array, sigma_w: Array, ensemble: Ensemble) -> Array:
    networks, rows, columns = normal.shape
    if ensemble == "gaussian":
        return sigma_w / math.sqrt(columns) * normal
    if rows > columns:
        return sigma_w * math.sqrt(rows / columns) * _frame(normal)
    return sigma_w * jnp.swapaxes(_frame(normal.reshape(networks, columns, rows)), 1, 2)


@jax.jit
def _passed(
    layer: Dense, weights: Array, biases: Array, uniform: Array, h: Array
) -> tuple[Array, Array]:
    """Return the diagonal of the first input's D, and what follows h."""
    mask = (uniform < layer.keep) / jnp.asarray(layer.keep)
    following = (mask * layer.phi(h)) @ jnp.swapaxes(weights, 1, 2)
    following += layer.sigma_b * biases[:, None]
    return mask[:, 0] * layer.phi.slope(h[:, 0]), following


def _frame(normal: Array) -> Array:
    """Return matrices with orthonormal columns, uniformly distributed; columns <= rows."""
    q, r = jnp.linalg.qr(normal)
    return q * jnp.where(jnp.diagonal(r, axis1=-2, axis2=-1) < 0, -1.0, 1.0)[:, None]


@jax.jit
def overlaps(h: Array) -> tuple[Array, Array, Array]:
    """Return q1, q2 and c of pairs of pre-activations."""
    q1, q2 = jnp.moveaxis(jnp.mean(h**2, axis=2), 1, 0)
    return q1, q2, jnp.mean(h[:, 0] * h[:, 1], axis=1) / (jnp.sqrt(q1) * jnp.sqrt(q2))


@jax.jit
def extend(jacobian: Array, weights: Array, slopes: Array) -> Array:
    return weights @ (slopes[:, :, None] * jacobian)


@jax.jit
def moments(jacobian: Array) -> tuple[Array, Array]:
    _, rows, columns = jacobian.shape
    adjoint = jnp.swapaxes(jacobian, 1, 2)
    # JᵀJ and JJᵀ have the same traces; the smaller one is formed.
    gram = adjoint @ jacobian if columns < rows else jacobian @ adjoint
    m1 = jnp.sum(jacobian**2, axis=(1, 2)) / rows
    return m1, jnp.sum(gram**2, axis=(1, 2)) / rows


@jax.jit
def singular_values(jacobian: Array) -> Array:
    return jnp.linalg.svd(jacobian, compute_uv=False)


@functools.partial(jax.jit, static_argnums=2)
def readout(keys: Keys, number: int, width: int) -> Array:
    """Return random unit vectors; `number` is that of a layer above the last one."""

    def one(key: Keys) -> Array:
        vector = jax.random.normal(jax.random.fold_in(key, number), (width,))
        return vector / jnp.linalg.norm(vector)

    return jax.vmap(one)(keys)


@jax.jit
def backward(delta: Array, weights: Array, slopes: Array) -> Array:
    return slopes * jnp.einsum("nij,ni->nj", weights, delta)


@jax.jit
def squares(delta: Array) -> Array:
    return jnp.sum(delta**2, axis=1)
