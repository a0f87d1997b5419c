"""Flax NNX: models initialised in place.

    from meanfield.integrations.flax import init_

    init_(model, jax.random.key(0), activation="tanh", sigma_b=0.3)

Layers of the kinds `nnx.Linear` and `nnx.Conv` follow each other as the model's attributes are
set. Modules of Linen hold no weights: they take the initialisers of `meanfield.init`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from meanfield.activations.base import ActivationLike
from meanfield.init import Distribution, biases
from meanfield.integrations.critical import (
    channels_last,
    critical_scales,
    framework,
    in_groups,
    require_layers,
)
from meanfield.integrations.scope import Kinds, Plan, in_order, judge_untraced, of_kernel

nnx: Any = framework("flax.nnx", "flax")

LAYERS = (nnx.Linear, nnx.Conv)
# Other modules of Flax are judged as a whole.
HOLDERS = (nnx.Sequential, nnx.List, nnx.Dict)


def init_(
    model: Any,
    key: Any,
    *,
    activation: ActivationLike,
    sigma_b: float = 0.0,
    sigma_w: float | None = None,
    distribution: Distribution = "gaussian",
    second_moment: float = 1.0,
    q: float | None = None,
    dry_run: bool = False,
) -> Any:
    """Initialise an `nnx.Module` in place and return it, or with `dry_run` a list of `LayerPlan`.

    Parameters, errors and warnings are those of `meanfield.integrations.equinox.init`.
    """
    phi, scales = critical_scales(activation, distribution, sigma_b, sigma_w, second_moment, q)
    named = dict(_named("", model))
    found = {name: part for name, part in named.items() if isinstance(part, LAYERS)}
    require_layers(list(found), "nnx.Linear or nnx.Conv")
    ordered = isinstance(model, nnx.Sequential)
    judge_untraced(named, KINDS, phi, sigma_b, sigma_w is None, ordered).settle()
    parts = in_order(found, of_kernel, nnx.Linear)
    if dry_run:
        return Plan(part.plan(scales, tuple(part.layer.kernel.shape)) for part in parts)
    for part, own in zip(parts, jax.random.split(key, len(parts)), strict=True):
        layer, draw = part.layer, part.initializer(scales, distribution)
        of_weights, of_biases = jax.random.split(own)
        kernel = channels_last(in_groups(draw, of_weights, part.shape, part.groups))
        layer.kernel[...] = kernel.astype(layer.kernel.dtype)
        if part.bias:
            layer.bias[...] = biases(scales.sigma_b)(of_biases, layer.bias.shape, layer.bias.dtype)
    return model


def _named(name: str, part: Any) -> Iterator[tuple[str, Any]]:
    """Yield modules, functions and lists by name, without what is inside layers."""
    yield name, part
    if isinstance(part, LAYERS):
        return
    if isinstance(part, list | tuple):
        inside: Iterable[tuple[Any, Any]] = enumerate(part)
    elif isinstance(part, dict):
        inside = part.items()
    elif isinstance(part, HOLDERS) or (isinstance(part, nnx.Module) and not KINDS.is_own(part)):
        inside = vars(part).items()
    else:
        return
    for step, child in inside:
        holds = callable(child) or isinstance(child, nnx.Module | list | tuple | dict)
        if holds and not str(step).startswith("_"):
            yield from _named(f"{name}.{step}" if name else str(step), child)


def _values(part: Any) -> Callable[[Iterable[float]], Any]:
    return lambda numbers: part(jnp.asarray(list(numbers)))


def _has_matrix(part: Any) -> bool:
    own = vars(part).values() if isinstance(part, nnx.Module) else ()
    return any(isinstance(one, nnx.Param) and len(one.shape) >= 2 for one in own)


KINDS = Kinds(
    package="flax",
    layers=LAYERS,
    embeddings=(nnx.Embed,),
    has_bias=lambda part: part.bias is not None,
    matrices=_has_matrix,
    rate=lambda part: part.rate,
    values=_values,
)
