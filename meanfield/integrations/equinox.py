"""Equinox: models with weights and biases of given scales.

    from meanfield.integrations.equinox import init

    model = init(model, key, activation="tanh", sigma_b=0.3)

Linear and Conv layers are taken in the order of the model's leaves, which should be that
of the network. All else is left as it is.
"""

from typing import Any

import jax

from meanfield.activations import Activation
from meanfield.init import Distribution, biases, require_distribution
from meanfield.integrations.critical import critical_scales, framework, in_groups, require_layers

eqx: Any = framework("equinox", "equinox")


def init(
    model: Any,
    key: Any,
    *,
    activation: str | Activation,
    sigma_b: float = 0.0,
    sigma_w: float | None = None,
    distribution: Distribution = "gaussian",
    second_moment: float = 1.0,
) -> Any:
    """Return the model with new weights and biases; see `meanfield.integrations.torch.init_`."""
    require_distribution(distribution)
    scales = critical_scales(activation, sigma_b, sigma_w, second_moment)

    def is_layer(part: Any) -> bool:
        return isinstance(part, eqx.nn.Linear | eqx.nn.Conv)

    def layers(model: Any) -> list[Any]:
        return [part for part in jax.tree.leaves(model, is_leaf=is_layer) if is_layer(part)]

    found = layers(model)
    require_layers(found, "Linear or Conv")
    changed = []
    for number, (layer, own) in enumerate(
        zip(found, jax.random.split(key, len(found)), strict=True)
    ):
        draw = scales.weights(distribution, not number, isinstance(layer, eqx.nn.Linear))
        of_weights, of_biases = jax.random.split(own)
        groups = getattr(layer, "groups", 1)
        weight = in_groups(draw, of_weights, layer.weight.shape, groups).astype(layer.weight.dtype)
        layer = eqx.tree_at(lambda part: part.weight, layer, weight)
        if layer.bias is not None:
            bias = biases(scales.sigma_b)(of_biases, layer.bias.shape, layer.bias.dtype)
            layer = eqx.tree_at(lambda part: part.bias, layer, bias)
        changed.append(layer)
    return eqx.tree_at(layers, model, changed)
