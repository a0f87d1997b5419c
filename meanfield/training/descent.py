"""An epoch of stochastic gradient descent, for many networks at once.

All images are shuffled and cut into batches; what is left over waits for the next epoch. On each
batch B, with p the softmax of a network's logits,

    θ ← θ - η ∂/∂θ (1/|B|) Σ -log p(label).

Networks with one seed see the same batches.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from meanfield._struct import struct
from meanfield.activations import Activation
from meanfield.training.network import Weights, logits, random_streams
from meanfield.typing import Array


@struct
class Samples:
    """Images to train on and to test with: inputs x with |x|²/N_0 = 1, and their classes."""

    train_inputs: Array
    train_labels: Array
    test_inputs: Array
    test_labels: Array


@struct
class Score:
    """Cross entropy in training, and the part of the test set that is right, network by network."""

    loss: Array
    accuracy: Array


def cross_entropy(
    phi: Activation, network: Weights, scale: Array, inputs: Array, labels: Array
) -> Array:
    """Return -log p(label), the mean over images; NaN or infinite where logits are."""
    logs = jax.nn.log_softmax(logits(phi, network, scale, inputs))
    return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], axis=1))


def _accuracy(phi: Activation, network: Weights, scale: Array, samples: Samples) -> Array:
    """Return the part of the test set that is right, NaN where a logit is not finite."""
    found = logits(phi, network, scale, samples.test_inputs)
    right = jnp.argmax(found, axis=1) == samples.test_labels
    return jnp.where(jnp.all(jnp.isfinite(found)), jnp.mean(right, dtype=float), jnp.nan)


@functools.partial(jax.jit, static_argnames="size")
def score(phi: Activation, networks: Weights, scales: Array, samples: Samples, size: int) -> Score:
    """Return how networks do that have not been trained, one a row of all arguments but `samples`.

    The loss is that of all images, of which `size` are looked at at a time.
    """
    count = len(samples.train_labels)
    whole = count // size * size

    def one(phi: Activation, network: Weights, scale: Array) -> Score:
        def loss(inputs: Array, labels: Array) -> Array:
            return len(labels) * cross_entropy(phi, network, scale, inputs, labels)

        batches = [
            part[:whole].reshape(-1, size, *part.shape[1:])
            for part in (samples.train_inputs, samples.train_labels)
        ]
        total = jnp.sum(jax.lax.map(lambda batch: loss(*batch), tuple(batches)))
        if whole < count:
            total += loss(samples.train_inputs[whole:], samples.train_labels[whole:])
        return Score(total / count, _accuracy(phi, network, scale, samples))

    return jax.vmap(one)(phi, networks, scales)


@functools.partial(jax.jit, static_argnames="size")
def gradients(
    phi: Activation, networks: Weights, scales: Array, samples: Samples, size: int
) -> Array:
    """Return √(mean |∂ℓ/∂h^l|²) of networks and their layers, one network a row of the arguments.

    ℓ is the loss on one image, the mean that of all images to train on, of which `size` are looked
    at at a time and what is left over is not. In float32 but for the squares.
    """
    count = len(samples.train_labels) // size * size
    batches = [
        part[:count].reshape(-1, size, *part.shape[1:])
        for part in (samples.train_inputs, samples.train_labels)
    ]

    def one(phi: Activation, network: Weights, scale: Array) -> Array:
        depth, width = network.biases.shape

        def squares(batch: tuple[Array, Array]) -> Array:
            def total(biases: Array) -> Array:
                own = dataclasses.replace(network, biases=biases)
                return size * cross_entropy(phi, own, scale, *batch)

            # With biases of its own an image feels in them what it feels in h.
            slopes = jax.grad(total)(
                jnp.broadcast_to(network.biases[:, None], (depth, size, width))
            )
            return jnp.sum(slopes.astype(float) ** 2, axis=(1, 2))

        return jnp.sqrt(jnp.sum(jax.lax.map(squares, tuple(batches)), axis=0) / count)

    return jax.vmap(one)(phi, networks, scales)


@functools.partial(jax.jit, static_argnames="size", donate_argnames="networks")
def descend(
    phi: Activation,
    networks: Weights,
    scales: Array,
    seeds: Array,
    epoch: Array,
    samples: Samples,
    rate: Array,
    size: int,
) -> tuple[Weights, Score]:
    """Return networks after an epoch with batches of `size` images; those given are used up.

    Activations, networks, scales s and seeds have one row a network. The loss is the mean over the
    epoch's batches, each before its step.
    """
    count = len(samples.train_labels)

    def one(phi: Activation, network: Weights, scale: Array, seed: Array) -> tuple[Weights, Score]:
        key = jax.random.fold_in(random_streams(seed)[1], epoch)
        order = jax.random.permutation(key, count)[: count // size * size].reshape(-1, size)

        def step(network: Weights, chosen: Array) -> tuple[Weights, Array]:
            loss, slopes = jax.value_and_grad(cross_entropy, argnums=1)(
                phi, network, scale, samples.train_inputs[chosen], samples.train_labels[chosen]
            )
            return jax.tree.map(lambda now, slope: now - rate * slope, network, slopes), loss

        network, losses = jax.lax.scan(step, network, order)
        return network, Score(jnp.mean(losses), _accuracy(phi, network, scale, samples))

    return jax.vmap(one)(phi, networks, scales, seeds)
