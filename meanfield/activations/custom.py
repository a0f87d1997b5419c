"""Any callable as an activation: one of JAX, NumPy or PyTorch.

Its kinks and jumps are found as it is sampled (`meanfield.panels`). A function of JAX is
differentiated, one of PyTorch by its own means; of one of NumPy the panels' polynomials are. The
latter two know numbers alone: they cannot be traced, but what is asked of them may be.
"""

import dataclasses
import functools
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from meanfield._struct import static, struct
from meanfield.activations.base import Activation, Pointwise
from meanfield.activations.numpy_rules import by_numpy
from meanfield.activations.torch_modules import Module, is_module
from meanfield.arguments import listed, single
from meanfield.errors import MeanFieldError
from meanfield.panels import derivative
from meanfield.typing import Array, ScalarLike

# Kinks that rules for traced numbers can serve, and how far out they are looked for.
MANY_KINKS = 12
REACH = 2.0**10
# In no order, so that sorting is seen.
PROBE = np.array([[0.7, -1.3, 1.7], [0.1, -0.5, -0.9]])


@struct
class Custom(Activation):
    """A callable; `locations` are where it was said to be rough."""

    function: Callable[[Array], Array] = static()
    locations: tuple[float, ...] = static(default=())
    label: str = static(default="custom")

    def __call__(self, x: Array) -> Array:
        return self.function(x)

    def known(self) -> tuple[ScalarLike, ...]:
        return self.locations

    def kinks(self) -> tuple[ScalarLike, ...]:
        """Return the points where φ is rough, those nearest to 0 if there are many."""
        from meanfield.activations.sampling import sampled

        found = [float(x) for x in sampled(self).upto(REACH).rough]
        return tuple(sorted(sorted(found, key=abs)[:MANY_KINKS]))


@struct
class Foreign(Custom):
    """A callable of NumPy or PyTorch."""

    torch: bool = static(default=False)

    def __call__(self, x: Array) -> Array:
        self._require_numbers(x)
        return jnp.asarray(_torch_values(self.function, x)[0] if self.torch else self.values(x))

    def values(self, x: Any) -> np.ndarray:
        """Return φ of NumPy's arrays."""
        return np.asarray(self.function(np.asarray(x, dtype=float)), dtype=float)  # pyright: ignore[reportArgumentType]

    def slope(self, x: Array) -> Array:
        self._require_numbers(x)
        values, _, _ = self.on_numbers()
        return jnp.asarray(values(np.asarray(x).ravel())[1].reshape(np.shape(x)))

    def curvature(self, x: Array) -> Array:
        self._require_numbers(x)
        _, curvature, _ = self.on_numbers()
        return jnp.asarray(curvature(np.asarray(x).ravel()).reshape(np.shape(x)))

    def on_numbers(self) -> Pointwise:
        if self.torch:
            return Pointwise(
                lambda x: _torch_values(self.function, x),
                derivative(lambda x: _torch_values(self.function, x)[1]),
                True,
            )
        slope = derivative(self.values)
        return Pointwise(lambda x: (self.values(x), slope(x)), derivative(slope), False)

    def _require_numbers(self, x: Any) -> None:
        if isinstance(x, Tracer):
            raise MeanFieldError(
                f"{self.label} is a function of {'PyTorch' if self.torch else 'NumPy'}, which "
                "knows numbers alone: to trace it (jit, grad) it must be written with jax.numpy"
            )


def _torch_values(function: Callable[..., Any], x: Any) -> tuple[np.ndarray, np.ndarray]:
    torch = sys.modules["torch"]
    at = torch.tensor(np.asarray(x, dtype=float), dtype=torch.float64, requires_grad=True)
    value = function(at)
    slope = np.zeros(np.shape(x))
    if value.requires_grad:
        slope = torch.autograd.grad(value.sum(), at)[0].numpy()
    return value.detach().numpy(), slope


def from_callable(
    function: Callable[[Any], Any],
    kinks: Sequence[ScalarLike] | None = None,
    label: str | None = None,
) -> Activation:
    """Return an activation that evaluates `function`.

    Parameters
    ----------
    function : elementwise, in double precision; written with JAX, NumPy or PyTorch, or a module of
        `torch.nn`, which is taken as it is now. To be traced itself (in a network under `jax.jit`)
        it must be written with jax.numpy; its statistics may be traced anyhow.
    kinks : points where φ is known to be rough. They are found, and need not be given.
    label : a name for messages and tables; by default the function's own.

    Raises
    ------
    MeanFieldError : the function is not elementwise, or a kink is not a finite number.
    """
    if is_module(function):
        function = Module(function)
    name = label or getattr(function, "__name__", "custom")
    if not callable(function):
        raise MeanFieldError(f"function = {function!r} is not legal; it must be callable")
    if isinstance(function, type):
        raise _refused(name, f"it is a class; give an object, {function.__name__}()")
    listed_kinks = listed("kinks", () if kinks is None else kinks)
    given = tuple(sorted(single("kinks", k, (np.isfinite, "finite numbers")) for k in listed_kinks))
    phi = Custom(function, given, name)
    try:
        traced = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(PROBE.shape, float))
        jax.eval_shape(phi.slope, jax.ShapeDtypeStruct(PROBE.shape, float))
    except Exception as error:  # a user's function may raise anything
        return _foreign(phi, error)
    if any(isinstance(held, Tracer) for held in traced.consts):
        raise MeanFieldError(
            f"{name} is not legal; it holds traced numbers: make them parameters of an activation "
            "(mf.register_activation)"
        )
    _require_elementwise(functools.partial(_jax_values, function), name)
    return phi


def _jax_values(function: Callable[[Any], Any], x: np.ndarray) -> Any:
    kind = jax.eval_shape(function, jax.ShapeDtypeStruct(x.shape, float))
    if not isinstance(kind, jax.ShapeDtypeStruct):
        return kind
    by = by_numpy(lambda x: (function(x),), x.shape)
    return function(jnp.asarray(x)) if by is None else by(x)[0].astype(kind.dtype)


def _foreign(phi: Custom, error: Exception) -> Activation:
    """Return a callable that JAX cannot trace, because of an error, as one of another library."""
    fields = {field.name: getattr(phi, field.name) for field in dataclasses.fields(Custom)}
    for torch in (False, True) if "torch" in sys.modules else (False,):
        found = Foreign(**fields, torch=torch)
        function: Any = found if torch else found.function
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                function(PROBE)
        except Exception:  # it is not of this library, then
            continue
        _require_elementwise(function, phi.label)
        return found
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    raise _refused(phi.label, reason) from error


def _refused(label: str, reason: str) -> MeanFieldError:
    return MeanFieldError(
        f"{label} is not legal; it must be an elementwise function of arrays, written with "
        f"jax.numpy, NumPy or PyTorch ({reason})"
    )


def _require_elementwise(function: Callable[[Any], Any], name: str) -> None:
    """Raise `MeanFieldError` unless a function's value at PROBE is that of an elementwise one."""
    value = function(PROBE)
    if isinstance(value, jax.Array | np.ndarray):
        if value.dtype in (np.float32, np.float16):
            raise MeanFieldError(
                f"{name} is not legal; it must return double precision, not {value.dtype}"
            )
        if np.isnan(np.asarray(value, dtype=float)).any():
            at = PROBE[np.isnan(np.asarray(value))][0] if value.shape == PROBE.shape else np.nan
            raise MeanFieldError(
                f"{name} is not legal; it must be a number everywhere, but is NaN at x = {at:.3g}"
            )
    elementwise = isinstance(value, jax.Array | np.ndarray) and value.shape == PROBE.shape
    elementwise = elementwise and np.issubdtype(value.dtype, np.floating)
    if not elementwise or not _acts_alone(function, np.asarray(value)):
        raise MeanFieldError(
            f"{name} is not legal; it must be elementwise: act on each number by itself, and "
            "return floating-point numbers"
        )


def _acts_alone(function: Callable[..., Any], value: np.ndarray) -> bool:
    """Return whether a function says of each number of PROBE alone what it says of all."""
    try:
        alone = [function(x.reshape(1, 1)) for x in PROBE.ravel()]
    except Exception:  # it needs its neighbours
        return False
    pairs = zip(alone, value.ravel(), strict=True)
    return all(np.allclose(x, y, rtol=1e-12, atol=1e-300, equal_nan=True) for x, y in pairs)
