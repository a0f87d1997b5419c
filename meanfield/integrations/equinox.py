"""Equinox: models with weights and biases of given scales.

    from meanfield.integrations.equinox import init

    model = init(model, key, activation="tanh", sigma_b=0.3)

The theory is that of a chain of Linear and Conv layers with one pointwise activation between them,
in the order of the model's leaves. What holds parts of another kind is refused; what a class of
the user's own does when it is called is taken on trust.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.base import ActivationLike
from meanfield.init import Distribution, biases
from meanfield.integrations.critical import (
    critical_scales,
    framework,
    in_groups,
    require_layers,
)
from meanfield.integrations.scope import Kinds, Plan, in_order, judge_untraced

eqx: Any = framework("equinox", "equinox")

LAYERS = (eqx.nn.Linear, eqx.nn.Conv)


def init(
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
    """Return the model with new weights and biases, or with `dry_run` a list of `LayerPlan`.

    Parameters and errors are those of `meanfield.integrations.torch.init_`, but that the model's
    operations are not known: modules are judged by their kind, and functions that the model
    holds by their values. Warns of classes that call layers with code of their own.
    """
    phi, scales = critical_scales(activation, distribution, sigma_b, sigma_w, second_moment, q)
    named = dict(_named("", model))
    found = {name: part for name, part in named.items() if _is_layer(part)}
    require_layers(list(found), "Linear or Conv")
    ordered = isinstance(model, eqx.nn.Sequential)
    judge_untraced(named, KINDS, phi, sigma_b, sigma_w is None, ordered).settle()
    parts = in_order(found, lambda layer: tuple(layer.weight.shape), eqx.nn.Linear)
    if dry_run:
        return Plan(part.plan(scales, part.shape) for part in parts)
    changed = []
    for part, own in zip(parts, jax.random.split(key, len(found)), strict=True):
        layer, draw = part.layer, part.initializer(scales, distribution)
        of_weights, of_biases = jax.random.split(own)
        weight = in_groups(draw, of_weights, part.shape, part.groups).astype(layer.weight.dtype)
        layer = eqx.tree_at(lambda part: part.weight, layer, weight)
        if layer.bias is not None:
            bias = biases(scales.sigma_b)(of_biases, layer.bias.shape, layer.bias.dtype)
            layer = eqx.tree_at(lambda part: part.bias, layer, bias)
        changed.append(layer)
    return eqx.tree_at(_layers, model, changed)


def _is_layer(part: Any) -> bool:
    return isinstance(part, LAYERS)


def _layers(model: Any) -> list[Any]:
    return [part for part in jax.tree.leaves(model, is_leaf=_is_layer) if _is_layer(part)]


def _named(name: str, part: Any) -> Iterator[tuple[str, Any]]:
    """Yield modules, functions and lists by name; of what holds no layers, the whole alone."""
    if isinstance(part, jax.Array | np.ndarray):
        return
    yield name, part
    if _is_layer(part) or not _layers(part):
        return
    inside, _ = jax.tree_util.tree_flatten_with_path(part, is_leaf=lambda one: one is not part)
    for (step,), child in inside:
        shown = str(step).strip(".[]'\"")
        if child is not None and shown != "final_activation":
            yield from _named(f"{name}.{shown}" if name else shown, child)


def _values(part: Any) -> Callable[[Iterable[float]], Any]:
    return lambda numbers: part(jnp.asarray(list(numbers)))


def _has_matrix(part: Any) -> bool:
    own = (lambda one: one is not part) if _layers(part) else None
    return any(eqx.is_array(one) and one.ndim >= 2 for one in jax.tree.leaves(part, is_leaf=own))


KINDS = Kinds(
    package="equinox",
    layers=LAYERS,
    embeddings=(eqx.nn.Embedding,),
    has_bias=lambda part: part.bias is not None,
    matrices=_has_matrix,
    rate=lambda part: part.p,
    values=_values,
)
