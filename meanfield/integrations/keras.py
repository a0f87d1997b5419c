"""Keras 3: an initialiser of kernels and biases.

from meanfield.integrations.keras import MeanField

keras.layers.Dense(300, kernel_initializer=MeanField(1.3), bias_initializer=MeanField(0.3, "bias"))
"""

import random
from typing import Any, Literal

import jax
import numpy as np

from meanfield.init import Distribution, biases, weights
from meanfield.integrations.critical import framework

keras: Any = framework("keras", "keras")


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
        # Which `keras.utils.set_random_seed` decides.
        seed = random.randrange(2**31) if self.seed is None else self.seed
        drawn = np.asarray(self.init(jax.random.key(seed), tuple(shape)))
        return keras.ops.convert_to_tensor(drawn, dtype=dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """Return what makes an equal one."""
        return {"sigma": self.sigma, "distribution": self.distribution, "seed": self.seed}
