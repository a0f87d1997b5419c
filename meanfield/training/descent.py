"""An epoch of stochastic gradient descent, for many networks at once.

All images are shuffled and cut into batches; what is left over waits for the next epoch. On each
batch B, with p the softmax of a network's last pre-activations,

    θ ← θ - η ∂/∂θ (1/|B|) Σ -log p(label).

Networks with one seed see the same batches.
"""

import functools

import jax
import jax.numpy as jnp

from meanfield._struct import static, struct
from meanfield.activations import Activation
from meanfield.training.data import CLASSES
from meanfield.training.network import Scales, Weights, logits
from meanfield.typing import Array


@struct
class Batches:
    """Images to train on and to test with: inputs x with |x|²/N_0 = 1, and their classes."""

    train_inputs: Array
    train_labels: Array
    test_inputs: Array
    test_labels: Array
    classes: int = static(default=CLASSES)


@struct
class Score:
    """Mean cross entropy of the images trained on, and the part of the test set that is right."""

    loss: Array
    accuracy: Array


def cross_entropy(phi: Activation, network: Weights, inputs: Array, labels: Array) -> Array:
    """Return -log p(label), the mean over images."""
    logs = jax.nn.log_softmax(logits(phi, network, inputs))
    return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], axis=1))


def _accuracy(phi: Activation, network: Weights, inputs: Array, labels: Array) -> Array:
    return jnp.mean(jnp.argmax(logits(phi, network, inputs), axis=1) == labels, dtype=float)


@functools.partial(jax.jit, static_argnames="size")
def score(phi: Activation, networks: Weights, scales: Scales, images: Batches, size: int) -> Score:
    """Return how networks, one a row, do; the loss is that of all images, `size` at a time."""

    def one(phi: Activation, network: Weights, scale: Array) -> Score:
        batches = len(images.train_labels) // size

        def loss(number: Array) -> Array:
            inputs, labels = (
                jax.lax.dynamic_slice_in_dim(array, number * size, size)
                for array in (images.train_inputs, images.train_labels)
            )
            return cross_entropy(phi, network, scale * inputs, labels)

        return Score(
            jnp.mean(jax.lax.map(loss, jnp.arange(batches))),
            _accuracy(phi, network, scale * images.test_inputs, images.test_labels),
        )

    return jax.vmap(one)(phi, networks, scales.inputs)


@functools.partial(jax.jit, static_argnames="size", donate_argnames="networks")
def descend(
    phi: Activation,
    networks: Weights,
    scales: Scales,
    seeds: Array,
    epoch: Array,
    images: Batches,
    rate: Array,
    size: int,
) -> tuple[Weights, Score]:
    """Return networks, one a row, after an epoch with batches of `size` images.

    The loss is the mean over the epoch's batches, each before its step.
    """
    count = len(images.train_labels)

    def one(phi: Activation, network: Weights, scale: Array, seed: Array) -> tuple[Weights, Score]:
        key = jax.random.fold_in(jax.random.key(seed), epoch)
        order = jax.random.permutation(key, count)[: count // size * size].reshape(-1, size)

        def step(network: Weights, chosen: Array) -> tuple[Weights, Array]:
            inputs, labels = scale * images.train_inputs[chosen], images.train_labels[chosen]
            loss, slopes = jax.value_and_grad(cross_entropy, argnums=1)(
                phi, network, inputs, labels
            )
            return jax.tree.map(lambda now, slope: now - rate * slope, network, slopes), loss

        network, losses = jax.lax.scan(step, network, order)
        test = _accuracy(phi, network, scale * images.test_inputs, images.test_labels)
        return network, Score(jnp.mean(losses), test)

    return jax.vmap(one)(phi, networks, scales.inputs, seeds)
