"""Initialisation of models of other frameworks: PyTorch, Flax, Keras and Equinox.

The models are chains of Linear and Conv layers with one pointwise activation between them; others
are refused. Flax takes the initialisers of `meanfield.init` as they are, too. There is a module
of each framework's name; where the framework is absent, importing that says how to install it.
"""

import importlib
from typing import Any

from meanfield.errors import MeanFieldError

FRAMEWORKS = ("torch", "keras", "flax", "equinox")


def initialise(model: Any, *keys: Any, **numbers: Any) -> Any:
    """Initialise a model as `init_` of its framework does, or `init` of Equinox; return the model.

    Models of Flax and Equinox take a key of JAX too. Raises `MeanFieldError` for what is no model.
    """
    roots = [base.__module__.split(".")[0] for base in type(model).__mro__]
    for name in FRAMEWORKS:
        if name in roots:
            module = importlib.import_module(f"meanfield.integrations.{name}")
            return (module.init if name == "equinox" else module.init_)(model, *keys, **numbers)
    raise MeanFieldError(
        f"model = {model!r} is not legal; it must be a module of {', '.join(FRAMEWORKS)}"
    )
