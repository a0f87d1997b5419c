"""The scaled-bounded theorem's bounds: values, orders of size, and that they do bound."""

import jax
import mpmath as mp
import numpy as np
import pytest

from meanfield import Dense, activation, bounds, correlation_map, edge_of_chaos
from meanfield.errors import MeanFieldError

YS = np.geomspace(1e-300, 1e100, 101)

# y: Λ, upper end of (23), U, x_S, bound (15), bound (16); mpmath, 10 digits.
TABLE = {
    0.1: (0.9795661407, 2.517619067, 1.836932122, 1.257731829, 0.6338405768, 1.209823383),
    0.01: (1.79690085, 5.424045855, 2.654366146, 1.964389303, 0.2942027343, 0.1620718398),
    1e-4: (3.158176765, 25.17619067, 3.918791428, 3.236599081, 0.06338405768, 0.003182762601),
    1.0: (0.3140011268, 1.168575255, 0.9164612767, 0.6471428198, 1.365568127, 15.46028211),
    4.0: (0.09739873144, 0.7361562811, 0.4925531079, 0.3881707271, 2.167704281, 165.1061534),
}


@pytest.mark.parametrize("y", TABLE)
def test_values(y):
    theorem = bounds.scaled_bounded(y)
    found = (
        theorem.ratio_lower,
        theorem.ratio_upper,
        theorem.sharp_ratio_upper,
        theorem.sharp_ratio_lower,
        theorem.correlation,
        theorem.moment_ratio,
    )
    np.testing.assert_allclose(found, TABLE[y], rtol=1e-9)


@pytest.mark.parametrize("y", [1e-300, 1e-100, 1e-12, 1e-3, 0.25, 1.0, 7.0, 1e4, 1e8])
def test_against_mpmath(y):
    with mp.workdps(40):
        omega = mp.lambertw(2 / (mp.pi * mp.mpf(y) ** 2)).real
        lower = mp.sqrt(mp.lambertw(omega * mp.exp(omega) / (omega + 2) ** 2).real)
        # Near 1, erf(Λ/√2)^(-2) - 1 is 2 erfc(Λ/√2) to first order.
        tail = mp.erfc(lower / mp.sqrt(2))
        moment = (1 - tail) ** -2 - 1 if tail > mp.mpf(10) ** -15 else 2 * tail
    theorem = bounds.scaled_bounded(y)
    assert float(theorem.ratio_lower) == pytest.approx(float(lower), rel=1e-13)
    # A tail exp(-x²/2) magnifies the rounding of x by x².
    assert float(theorem.moment_ratio) == pytest.approx(float(moment), rel=1e-11)


def test_ends_stay_in_order_over_three_hundred_decades():
    theorem = bounds.scaled_bounded(YS)
    for field in theorem.__dataclass_fields__:
        assert np.all(np.isfinite(getattr(theorem, field))), field
        assert np.all(np.asarray(getattr(theorem, field)) > 0), field
    assert np.all(theorem.ratio_lower <= theorem.sharp_ratio_lower)
    assert np.all(theorem.sharp_ratio_lower <= theorem.sharp_ratio_upper)
    assert np.all(theorem.sharp_ratio_upper <= theorem.ratio_upper)
    assert np.all(theorem.sharp_correlation <= theorem.correlation)
    assert np.all(theorem.sharp_moment_ratio <= theorem.moment_ratio)


@pytest.mark.parametrize("y", [1e-4, 0.1, 2.0])
def test_sharp_ends_solve_their_equations(y):
    theorem = bounds.scaled_bounded(y)
    x = mp.mpf(float(theorem.sharp_ratio_lower))
    left = mp.sqrt(2 / mp.pi) * mp.exp(-(x**2) / 2) / x
    assert float(left / (y + (1 - y) * mp.erfc(x / mp.sqrt(2)))) == pytest.approx(1, rel=1e-12)
    u = mp.mpf(float(theorem.sharp_ratio_upper))
    right = mp.erfc(u / mp.sqrt(2)) + mp.sqrt(2 / mp.pi) * u * mp.exp(-(u**2) / 2)
    assert float(right / (y * u**2)) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("y", [1e-300, 1e-100, 1e-50])
def test_the_sharp_lower_end_keeps_its_digits_far_out(y):
    x = float(bounds.scaled_bounded(y).sharp_ratio_lower)

    def excess(x):
        left = mp.sqrt(2 / mp.pi) * mp.exp(-(x**2) / 2) / x - mp.erfc(x / mp.sqrt(2))
        return mp.log(left) - mp.log(y) - mp.log(mp.erf(x / mp.sqrt(2)))

    with mp.workdps(50):
        assert x == pytest.approx(float(mp.findroot(excess, (x * 0.999, x))), rel=2e-13)


def test_derivatives_match_central_differences():
    for field in ("ratio_lower", "sharp_ratio_lower", "sharp_ratio_upper", "moment_ratio"):

        def value(y, field=field):
            return getattr(bounds.scaled_bounded(y), field)

        central = (value(0.1 + 1e-6) - value(0.1 - 1e-6)) / 2e-6
        assert float(jax.grad(value)(0.1)) == pytest.approx(float(central), rel=1e-7)


def test_shtanh_attains_the_sharp_lower_end_whatever_its_gain():
    for a, k, sigma_b in [(1.0, 1.0, 0.3), (0.5, 2.0, 0.01), (7.0, 0.3, 1.0)]:
        point = edge_of_chaos(activation("shtanh", a=a, k=k), sigma_b)
        theorem = bounds.scaled_bounded(sigma_b**2 / a**2)
        ratio = a / np.sqrt(point.q)
        assert float(ratio) == pytest.approx(float(theorem.sharp_ratio_lower), rel=1e-11)


def test_negative_correlations_move_twice_as_far():
    phi = activation("shtanh")
    point = edge_of_chaos(phi, np.sqrt(0.1))
    layer = Dense(phi, point.sigma_w, point.sigma_b)
    assert float(correlation_map(layer, point.q, -1.0)) == pytest.approx(-0.683622129023424474)
    assert float(0.2 / point.q) == pytest.approx(0.316377870976575526, rel=1e-12)


@pytest.mark.parametrize("y", [0.0, -1.0, np.nan, np.inf])
def test_illegal_y(y):
    with pytest.raises(MeanFieldError, match=r"y = .* must be a number from 1e-300"):
        bounds.scaled_bounded(y)
