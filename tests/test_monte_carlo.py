"""Finite random networks, drawn with numpy, do what the theory says within 4 standard errors.

Widths are such that the corrections of order 1/width stay below the statistical error.
"""

import numpy as np
import pytest

import meanfield as mf

STANDARD_ERRORS = 4.0

FUNCTIONS = {
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(float)),
    "shtanh": (lambda x: np.clip(x, -1, 1), lambda x: (np.abs(x) < 1).astype(float)),
}


def uniform_frame(matrix):
    """Return orthonormal columns from Gaussian ones; the signs make them uniform."""
    q, r = np.linalg.qr(matrix)
    return q * np.sign(np.diag(r))


def weights(rng, width, sigma_w, ensemble):
    matrix = rng.standard_normal((width, width))
    if ensemble == "gaussian":
        return sigma_w / np.sqrt(width) * matrix
    return sigma_w * uniform_frame(matrix)


def mix(rng, z, sigma_w, ensemble):
    """Return W z for two vectors z, without a matrix where W is orthogonal.

    An orthogonal W takes two vectors to random ones of the same lengths and angle.
    """
    if ensemble == "gaussian":
        return weights(rng, z.shape[1], sigma_w, ensemble) @ z.T
    _, shape = np.linalg.qr(z.T)
    return sigma_w * uniform_frame(rng.standard_normal(z.T.shape)) @ shape


def agrees(samples, theory, resolution):
    """Assert that the mean of samples is the theory's value, to a useful precision."""
    mean = samples.mean()
    error = samples.std(ddof=1) / np.sqrt(len(samples))
    assert error < resolution, "too few draws for the check to mean anything"
    assert abs(mean - theory) < STANDARD_ERRORS * error, (mean, theory, error)


@pytest.mark.parametrize("ensemble", ["gaussian", "orthogonal"])
@pytest.mark.parametrize(
    ("name", "sigma_w", "sigma_b"), [("tanh", 1.8, 0.3), ("relu", 1.3, 0.2), ("shtanh", 1.1, 0.3)]
)
def test_variances_and_correlations(name, sigma_w, sigma_b, ensemble):
    width, depth, draws = 400, 3, 60
    rng, phi = np.random.default_rng(7), FUNCTIONS[name][0]
    q1, q2, c = 1.5, 0.6, 0.4
    samples = []
    for _ in range(draws):
        z = rng.standard_normal((2, width))
        h = np.stack([np.sqrt(q1) * z[0], np.sqrt(q2) * (c * z[0] + np.sqrt(1 - c * c) * z[1])])
        for _ in range(depth):
            bias = sigma_b * rng.standard_normal(width)
            h = mix(rng, phi(h), sigma_w, ensemble).T + bias
        samples.append([np.mean(h[0] ** 2), np.mean(h[1] ** 2), np.mean(h[0] * h[1])])
    v1, v2, v12 = np.array(samples).T
    layer = mf.Dense(mf.activation(name), sigma_w, sigma_b, ensemble)
    path = mf.rollout(layer, q1, q2, c * np.sqrt(q1 * q2), depth)
    agrees(v1, float(path.q1[-1]), 0.03)
    agrees(v2, float(path.q2[-1]), 0.03)
    agrees(v12, float(path.q12[-1]), 0.03)
    agrees(v12 / np.sqrt(v1 * v2), float(path.c[-1]), 0.02)


@pytest.mark.parametrize("ensemble", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("name", ["tanh", "relu", "shtanh"])
def test_moments_of_the_jacobian_on_the_edge(name, ensemble):
    width, depth, draws = 200, 4, 30
    rng, (phi, slope) = np.random.default_rng(11), FUNCTIONS[name]
    point = mf.critical_point(mf.activation(name), 0.7)
    q, sigma_w, sigma_b = (float(x) for x in (point.q, point.sigma_w, point.sigma_b))
    samples = []
    for _ in range(draws):
        h, jacobian = np.sqrt(q) * rng.standard_normal(width), np.eye(width)
        for _ in range(depth):
            # One layer is x ↦ φ(W x + b) in [Pennington et al. 2018]; here W acts after φ.
            w = weights(rng, width, sigma_w, ensemble)
            jacobian = w @ (slope(h)[:, None] * jacobian)
            h = w @ phi(h) + sigma_b * rng.standard_normal(width)
        squares = jacobian @ jacobian.T
        m1 = np.trace(squares) / width
        samples.append([m1, np.sum(squares**2) / width - m1**2])
    m1, variance = np.array(samples).T
    layer = mf.Dense(mf.activation(name), sigma_w, sigma_b, ensemble)
    theory = mf.check(mf.jacobian_moments(layer, q, float(depth)))
    assert theory.m1 == pytest.approx(1.0, rel=1e-12)
    agrees(m1, float(theory.m1), 0.05)
    agrees(variance, float(theory.variance), 0.08 * float(theory.variance))
