"""Functions of JAX are the same by NumPy, operation by operation."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import meanfield as mf
from meanfield.activations import activations, numpy_rules
from meanfield.activations.base import derivative
from meanfield.activations.numpy_rules import by_numpy
from meanfield.activations.sampling import derivatives, pointwise

SIZE = 512
RANDOM = np.random.default_rng(7)
KNOTS, HEIGHTS = np.sort(RANDOM.uniform(-3, 3, 12)), RANDOM.normal(size=12)
X = np.sort(np.concatenate([RANDOM.normal(size=SIZE - 64) * 3, RANDOM.normal(size=64) * 1e-3]))


def halved(state):
    count, x = state
    return count + 1, x / 2


FUNCTIONS = {
    "knots": lambda x: jnp.interp(x, KNOTS, HEIGHTS),
    "look-up": lambda x: jnp.asarray(HEIGHTS)[jnp.clip(jnp.searchsorted(KNOTS, x), 0, 11)],
    "roots and steps": lambda x: jnp.cbrt(x) + jnp.sqrt(jnp.abs(x)) + jnp.floor(x) + jnp.round(x),
    "remainders": lambda x: x % 1.0 + jnp.fmod(x, 0.7) + jnp.sign(x) * jnp.heaviside(x, 0.5),
    "powers": lambda x: jnp.abs(x) ** 1.5 + x**3 + 1 / (1 + x * x) + jax.lax.rsqrt(1 + x * x),
    "cases": lambda x: jnp.select([x < -1, x < 1], [x * 0 - 1.0, x], jnp.tanh(x)),
    "pieces": lambda x: jnp.piecewise(x, [x > 1], [lambda x: x**2, lambda x: -x]),
    "hyperbolic": lambda x: jnp.sinh(x / 3) + jnp.arctanh(jnp.tanh(x) / 2) + jnp.arcsinh(x),
    "special": lambda x: jax.scipy.special.erfc(x) + jax.nn.gelu(x, approximate=False),
    "logarithms": lambda x: jnp.logaddexp(x, 0.3) + jnp.log1p(x * x) + jax.nn.log_sigmoid(x),
    "loop": lambda x: jax.lax.fori_loop(0, 3, lambda _, y: jnp.sin(y), x),
    "until": lambda x: jax.lax.while_loop(lambda s: s[0] < 4, halved, (0, x))[1],
    "scan": lambda x: jax.lax.scan(lambda y, w: (y + 0.1 * jnp.sin(w * y), None), x, KNOTS)[0],
    "branch": lambda x: jax.lax.cond(True, jnp.tanh, jnp.sin, x),
    "hinges": lambda x: (jnp.maximum(x[..., None] - KNOTS, 0) * HEIGHTS).sum(-1),
    "layer": lambda x: jnp.tanh(x[..., None] * KNOTS) @ HEIGHTS,
    "polynomial": lambda x: jnp.polyval(jnp.asarray(HEIGHTS[:4]), x),
    "constant": lambda x: jnp.full_like(x, 2.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_their_slopes(name, monkeypatch):
    # Long ones too, which would be compiled.
    monkeypatch.setattr(numpy_rules, "LONGEST", 100_000)
    f = FUNCTIONS[name]
    functions = (f, derivative(f))
    ours = by_numpy(lambda x: tuple(g(x) for g in functions), X.shape)
    assert ours is not None
    for found, g in zip(ours(X), functions, strict=True):
        expected = np.asarray(jax.jit(g)(X))
        assert found.shape == X.shape
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", activations)
def test_activations_and_two_derivatives(name):
    phi = mf.activation(name)
    ours = by_numpy(lambda x: (phi(x), phi.slope(x), phi.curvature(x)), X.shape)
    assert ours is not None
    theirs = jax.jit(lambda x: (phi(x), phi.slope(x), phi.curvature(x)))(X)
    for found, expected in zip(ours(X), theirs, strict=True):
        # XLA's tanh is the less exact one.
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_digits_of_tails():
    """1 - tanh² and φ'' of mish from 40 digits, where XLA has lost some."""
    x = np.array([2.3, 2.988, 5.675, 8.02])
    with mp.workdps(40):
        mish = lambda t: t * mp.tanh(mp.log1p(mp.exp(t)))  # noqa: E731
        bends = [float(mp.diff(mish, mp.mpf(t), 2)) for t in x]
        slopes = [float(mp.sech(mp.mpf(t)) ** 2) for t in x]
    np.testing.assert_allclose(derivatives(mf.activation("mish"), x, 2)[2], bends, atol=1e-14)
    found = pointwise(mf.activation("tanh")).values(x)[1]
    np.testing.assert_allclose(found, slopes, atol=2e-16)


TABLE = RANDOM.normal(size=(7, 3))
UNSERVED = {
    "rows of a table": lambda x: jnp.asarray(TABLE)[jnp.clip(x, 0, 6).astype(int)].sum(-1),
    "bits": lambda x: (jnp.clip(x, 0, 6).astype(int) & 1) * x,
    "batches": lambda x: jnp.einsum("...k,...k->...", x[..., None] * KNOTS, x[..., None] * KNOTS),
}


@pytest.mark.parametrize("name", UNSERVED)
def test_forms_without_a_rule_are_compiled(name):
    """Not found out at the first evaluation: the answers are those of JAX."""
    function = UNSERVED[name]
    assert by_numpy(lambda x: (function(x),), X.shape) is None
    values, _ = pointwise(mf.from_callable(function)).values(X)
    np.testing.assert_allclose(values, jax.jit(function)(X), rtol=1e-13)


def test_what_has_no_rule_is_compiled():
    """Bessel functions are series in a loop that is long; FFTs have no rule."""
    f = lambda x: jnp.fft.irfft(jnp.fft.rfft(x), SIZE)  # noqa: E731
    assert by_numpy(lambda x: (f(x),), X.shape) is None
    phi = mf.from_callable(jax.scipy.special.i1e)
    values, slopes = pointwise(phi).values(X[:5])
    np.testing.assert_allclose(values, jax.scipy.special.i1e(X[:5]), rtol=1e-13)
    np.testing.assert_allclose(slopes, phi.slope(jnp.asarray(X[:5])), rtol=1e-13)


def test_nothing_is_compiled_for_first_answers():
    """Neither for a callable that was never seen nor for what is asked of it.

    JAX's own making of numbers takes a few kernels that know no function: they are there already.
    """
    import logging

    def ask(phi):
        layer = mf.Dense(phi, 0.9, 0.3)
        mf.steady_state(layer)
        mf.correlation_fixed_point(layer)
        mf.jacobian_moments(layer, 1.0, 10.0)
        mf.edge_of_chaos(phi, 0.3)

    ask(mf.activation("tanh"))
    compiled = []

    class Listener(logging.Handler):
        def emit(self, record):
            compiled.append(record.getMessage())

    logger, listener = logging.getLogger("jax._src.dispatch"), Listener()
    logger.addHandler(listener)
    try:
        with jax.log_compiles():
            ask(mf.from_callable(lambda x: x + 0.123 * jnp.sin(3 * x)))
    finally:
        logger.removeHandler(listener)
    assert [line for line in compiled if "XLA compilation" in line] == []
