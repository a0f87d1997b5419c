"""Keras 3: an initialiser of kernels and biases, and models initialised in place.

    from meanfield.integrations.keras import MeanField, init_

    bias = MeanField(0.3, "bias")
    keras.layers.Dense(300, kernel_initializer=MeanField(1.3), bias_initializer=bias)

    init_(model, activation="tanh", sigma_b=0.3)

An initialiser sees no model: that the layers are a chain with one activation between them is up to
who writes it. `init_` looks at the layers, and in functional models at how they are connected.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import jax
import numpy as np

from meanfield.activations.base import ActivationLike
from meanfield.errors import MeanFieldError
from meanfield.init import Distribution, biases, weights
from meanfield.integrations.critical import (
    channels_last,
    critical_scales,
    framework,
    in_groups,
    require_layers,
)
from meanfield.integrations.scope import (
    JOINS,
    TWICE,
    Findings,
    Kinds,
    Plan,
    in_order,
    judge_untraced,
    of_kernel,
)

keras: Any = framework("keras", "keras")


LAYERS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@keras.saving.register_keras_serializable(package="meanfield")
class MeanField(keras.initializers.Initializer):
    """Weights of standard deviation σ/√N_in, or with the distribution "bias" biases of σ.

    Kernels have the axes (..., in, out). The `seed` is a number; without it one is drawn, so that
    layers that share the object share their numbers only if they have one.
    """

    def __init__(
        self,
        sigma: float,
        distribution: Distribution | Literal["bias"] = "gaussian",
        seed: int | None = None,
    ) -> None:
        self.init = biases(sigma) if distribution == "bias" else weights(sigma, distribution)
        self.sigma, self.distribution, self.seed = sigma, distribution, seed

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """Return a tensor of a shape."""
        key = _key() if self.seed is None else jax.random.key(self.seed)
        drawn = np.asarray(self.init(key, tuple(shape)))
        return keras.ops.convert_to_tensor(drawn, dtype=dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """Return what makes an equal one."""
        return {"sigma": self.sigma, "distribution": self.distribution, "seed": self.seed}


def init_(
    model: Any,
    *,
    activation: ActivationLike,
    sigma_b: float = 0.0,
    sigma_w: float | None = None,
    distribution: Distribution = "gaussian",
    second_moment: float = 1.0,
    q: float | None = None,
    dry_run: bool = False,
) -> Any:
    """Initialise a built `keras.Model` in place and return it, or with `dry_run` a `Plan`.

    Parameters, errors and warnings are those of `meanfield.integrations.equinox.init`. Besides,
    functional models whose paths join, or that use a layer twice, are refused.
    """
    phi, scales = critical_scales(activation, distribution, sigma_b, sigma_w, second_moment, q)
    named = dict(_named("", model))
    found = {name: part for name, part in named.items() if isinstance(part, LAYERS)}
    require_layers(list(found), "Dense, Conv1D, Conv2D or Conv3D")
    # What the output does is no matter of the activation between layers.
    named.pop(f"{list(found)[-1]}.activation", None)
    if not all(part.built for part in found.values()):
        raise MeanFieldError("model is not legal; run it once, so that its layers have a shape")
    ordered = isinstance(model, GRAPHS)
    findings = judge_untraced(named, KINDS, phi, sigma_b, sigma_w is None, ordered)
    for name, part in named.items():
        if isinstance(part, keras.models.Model):
            _judge_graph(name, part, findings)
    findings.settle()
    parts = in_order(found, of_kernel, keras.layers.Dense)
    if dry_run:
        return Plan(part.plan(scales, tuple(part.layer.kernel.shape)) for part in parts)
    for part in parts:
        draw = part.initializer(scales, distribution)
        part.layer.kernel.assign(channels_last(in_groups(draw, _key(), part.shape, part.groups)))
        if part.bias:
            part.layer.bias.assign(biases(scales.sigma_b)(_key(), tuple(part.layer.bias.shape)))
    return model


def _key() -> Any:
    """Return a key that `keras.utils.set_random_seed` decides."""
    return jax.random.key(random.randrange(2**31))


def _named(name: str, part: Any) -> Iterator[tuple[str, Any]]:
    """Yield layers and operations by name, and the activations that layers have."""
    yield name, part
    if isinstance(part, LAYERS):
        yield f"{name}.activation", part.activation
        return
    for inner in _inside(part):
        yield from _named(f"{name}.{inner.name}" if name else inner.name, inner)


def _inside(part: Any) -> list[Any]:
    """Return the layers of a model in their order; in functional ones the operations too."""
    if isinstance(part, keras.Sequential):
        return part.layers
    if isinstance(part, GRAPHS):
        return part.operations
    # Layers that hold others have no public list of them; models do.
    held = getattr(part, "_flatten_layers", None)
    return [] if held is None else list(held(include_self=False, recursive=False))


def _judge_graph(name: str, model: Any, findings: Findings) -> None:
    """Note where the paths of a functional model join, and what it calls twice."""
    if not isinstance(model, GRAPHS) or isinstance(model, keras.Sequential):
        return
    nodes = {id(node) for depth in model._nodes_by_depth.values() for node in depth}
    for part in model.operations:
        shown = f"{name}.{part.name}" if name else part.name
        calls = [node for node in part._inbound_nodes if id(node) in nodes]
        if len(calls) > 1 and isinstance(part, LAYERS):
            findings.fault(shown, part, TWICE)
        if any(len({id(above.operation) for above in node.parent_nodes}) > 1 for node in calls):
            findings.fault(shown, part, JOINS)


def _values(part: Any) -> Callable[[Iterable[float]], Any]:
    return lambda numbers: keras.ops.convert_to_numpy(
        part(keras.ops.convert_to_tensor(list(numbers)))
    )


GRAPHS = (keras.Sequential, type(keras.Model(*[keras.Input((1,))] * 2)))
KINDS = Kinds(
    package="keras",
    layers=LAYERS,
    embeddings=(keras.layers.Embedding,),
    has_bias=lambda part: part.use_bias,
    matrices=lambda part: (
        not _inside(part) and any(len(one.shape) >= 2 for one in getattr(part, "weights", ()))
    ),
    rate=lambda part: part.rate,
    values=_values,
)
