"""Shaped activations: the constants that others publish, the conditions, honest misses."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import meanfield as mf
from meanfield.errors import MeanFieldError
from meanfield.shaping import dks, tat


def modified_resnet(local, x, weight=0.6):
    """The part of a modified ResNet-101 that grows most, after google-deepmind/dks (its test)."""
    branch = local(local(local(x)))
    for blocks in (3, 4, 23, 3):
        for block in range(blocks):
            shortcut = local(x) if block == 0 else x
            x = weight**2 * shortcut + (1 - weight**2) * local(local(local(x)))
    return max(local(x), branch)


# tests/test_activation_transform.py of google-deepmind/dks at 021816e: input scale, shift; output
# shift and scale, with ζ = 1.2 and τ = 0.2. Its constants for ReLU are right to four digits only.
DKS = {
    "softplus": (0.18761008168, 0.40688063442, -0.92134661514, 8.87867254367),
    "tanh": (0.07461073058, 0.55669151999, -0.50343787687, 18.0026359644),
    "gelu": (0.07043253127, 0.25948929793, -0.15815378962, 20.21158902316),
    "gelu_tanh": (0.07036271496, 0.25868372486, -0.15758328114, 20.24957330519),
}
TAT = {
    "softplus": (0.15011489795, 0.53745999011, -0.99648101447, 10.54880187881),
    "tanh": (0.05802052186, 0.52186398041, -0.47964307044, 22.36066261763),
}


def constants(shaped):
    return shaped.input_scale, shaped.input_shift, shaped.output_shift, shaped.output_scale


@pytest.mark.parametrize("name", DKS)
def test_published_constants_of_dks(name):
    shaped = dks(mf.activation(name), modified_resnet, 1.2)
    assert shaped.local == pytest.approx(1.002770965849537, rel=1e-14)
    # They were found to 1e-7: half the digits of what they solve.
    np.testing.assert_allclose(constants(shaped), DKS[name], rtol=4e-8)


@pytest.mark.parametrize("name", TAT)
def test_published_constants_of_tat(name):
    shaped = tat(mf.activation(name), modified_resnet, curvature=0.2)
    assert shaped.local == pytest.approx(0.0030395136778, rel=1e-10)
    np.testing.assert_allclose(constants(shaped), TAT[name], rtol=4e-8)


def test_rectifiers_of_dks():
    shaped = dks(mf.activation("leaky_relu"), modified_resnet, 1.2)
    slope = -float(shaped.activation(np.array(-1.0)) - shaped.activation(np.array(0.0)))
    assert slope / shaped.output_scale == pytest.approx(0.8761257073, abs=2e-9)
    assert shaped.output_shift == pytest.approx(-0.0494186930, abs=2e-9)
    shaped = dks(mf.activation("relu"), modified_resnet, 1.2)
    # Closed form by mpmath; 0.3685360046708044 is published.
    assert shaped.input_scale == pytest.approx(0.36854362513197, rel=1e-12)
    assert dks(mf.activation("relu"), 1, 1.4669).status == mf.Status.OK
    assert dks(mf.activation("relu"), 1, 1.467).status == mf.Status.NO_SOLUTION


@pytest.mark.parametrize(
    ("network", "eta", "slope"),
    [
        (modified_resnet, 0.75, 0.62918002966),
        (20, 0.9, 0.181380277490),
        (100, 0.9, 0.570439531059),
        (1000, 0.9, 0.844350110702),
    ],
)
def test_tailored_rectifiers(network, eta, slope):
    shaped = tat(mf.activation("relu"), network, correlation=eta)
    found = -shaped.activation(np.array(-1.0)) / shaped.activation(np.array(1.0))
    assert float(found) == pytest.approx(slope, rel=1e-10)
    if isinstance(network, int):
        layer = mf.Dense(shaped.activation, 1.0, 0.0)
        path = mf.rollout(layer, 1.0, 1.0, 0.0, min(network, 100))
        assert network > 100 or 1 - float(path.epsilon[-1]) == pytest.approx(eta, rel=1e-11)


def test_a_shallow_network_cannot_be_so_correlated():
    shaped = tat(mf.activation("leaky_relu"), 10)
    assert shaped.status == mf.Status.NO_SOLUTION
    assert math.isnan(shaped.output_scale)


def moment(f):
    return quad(
        lambda z: f(z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), -9, 9, epsabs=1e-13
    )[0]


@pytest.mark.parametrize(("method", "depth"), [(dks, 3), (dks, 300), (tat, 3), (tat, 300)])
def test_the_conditions_hold_by_scipy(method, depth):
    """SiLU, in shallow networks and deep ones, whose nonlinear part is small."""
    shaped = method(mf.activation("swish"), depth)
    alpha, beta, delta, gamma = constants(shaped)

    def phi(x):
        return x / (1 + math.exp(-x))

    def slope(x):
        s = 1 / (1 + math.exp(-x))
        return s + x * s * (1 - s)

    def f(z):
        return gamma * (phi(alpha * z + beta) + delta)

    def f1(z):
        return gamma * alpha * slope(alpha * z + beta)

    assert moment(lambda z: f(z) ** 2) == pytest.approx(1, abs=1e-10)
    assert moment(lambda z: z * f(z) * f1(z)) == pytest.approx(1, abs=1e-9)
    if method is dks:
        assert moment(f) == pytest.approx(0, abs=1e-9)
        assert moment(lambda z: f1(z) ** 2) ** depth == pytest.approx(1.5, rel=1e-7)
    else:
        assert moment(lambda z: f1(z) ** 2) == pytest.approx(1, abs=1e-9)
        step = 1e-4
        bend = moment(lambda z: ((f1(z + step) - f1(z - step)) / (2 * step)) ** 2)
        assert depth * bend == pytest.approx(0.3, rel=1e-5)


def test_what_has_no_shape_says_so():
    assert tat(mf.activation("hard_swish"), 10).status == mf.Status.NO_SOLUTION
    assert tat(mf.activation("linear"), 10).status == mf.Status.NO_SOLUTION
    jumping = mf.from_callable(lambda x: jnp.where(x > 0, 1.0 + x, 0.0), kinks=(0.0,))
    for method in (dks, tat):
        assert method(jumping, 10).status == mf.Status.NO_SOLUTION
    for name in ("linear", "hard_tanh", "abs", "shtanh"):
        assert dks(mf.activation(name), 10).status == mf.Status.NO_SOLUTION
    for legal in (0, True, -3, 10.0, "10"):
        with pytest.raises(MeanFieldError, match="it must be an integer >= 1"):
            dks(mf.activation("tanh"), legal)
    with pytest.raises(MeanFieldError, match="slope = 1 is not legal"):
        dks(mf.activation("tanh"), 10, 1)
    with pytest.raises(MeanFieldError, match=r"correlation = 1.0 is not legal"):
        tat(mf.activation("relu"), 10, correlation=1.0)
    with pytest.raises(MeanFieldError, match="network is not legal"):
        dks(mf.activation("tanh"), lambda _local, x: x)
    with pytest.raises(MeanFieldError, match="network is not legal"):
        tat(mf.activation("relu"), lambda _local, _x: 0.95)


def test_stretched_activations_have_stretched_shapes():
    one, wide = (tat(mf.scale(mf.activation("tanh"), input=x), 50) for x in (1.0, 0.01))
    assert wide.status == mf.Status.OK
    assert wide.input_scale == pytest.approx(100 * one.input_scale, rel=1e-6)
    assert wide.input_shift == pytest.approx(100 * one.input_shift, rel=1e-6)
    assert wide.output_scale == pytest.approx(one.output_scale, rel=1e-6)
