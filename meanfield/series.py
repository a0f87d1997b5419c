"""Moments of a free product, from power series.

The S-transform of a law with moment transform M(Ω) = Σ μ_k Ω^-k is S(z) = (1 + z)/(z M⁻¹(z)).
S-transforms of free factors multiply [1], and the moments of the product come back by Lagrange's
inversion,

    m_k = (1/k) [z^(k-1)] ((1 + z)/S(z))^k.                                              (*)

All series have constant term 1 and are cut after z^7: powers go through their logarithms, so that
10⁴ factors cost what one does.

References
----------
[1] D. Voiculescu, Multiplication of certain non-commuting random variables, J. Operator Theory
    18 (1987) 223-235.
"""

import numpy as np


def moments_of_product(moments: np.ndarray, count: np.ndarray, gaussian: np.ndarray) -> np.ndarray:
    """Return the moments m_1 ... m_K of Π_j (W_j Wᵀ_j X_j)^count_j, free of one another.

    `moments` has shape (J, K): those of X_j, of mean 1. `gaussian` is 1 where W_j is a square
    Gaussian matrix, E WWᵀ = 1, and 0 where it is orthogonal.
    """
    orders = range(1, moments.shape[-1] + 1)
    log_one_plus = log_series(np.array([1.0, 1.0, *[0.0] * (len(orders) - 2)]))
    # 1/S = (z/y) / (1 + z) with y = 1/M⁻¹(z).
    logs = np.stack([-log_series(_inverse(row)) for row in moments])
    logs += (gaussian - 1.0)[:, None] * log_one_plus
    total = log_one_plus + (count[:, None] * logs).sum(axis=0)
    return np.array([exp_series(k * total)[k - 1] / k for k in orders])


def _inverse(moments: np.ndarray) -> np.ndarray:
    """Return y(z)/z where Σ μ_k y^k = z, μ_1 = 1, by Lagrange's inversion."""
    log_f = log_series(moments)
    return np.array([exp_series(-k * log_f)[k - 1] / k for k in range(1, moments.size + 1)])


def log_series(a: np.ndarray) -> np.ndarray:
    """Return the logarithm of a power series with constant term 1."""
    log = np.zeros(a.size)
    for k in range(1, a.size):
        j = np.arange(1, k)
        log[k] = a[k] - (j * log[j] * a[k - j]).sum() / k
    return log


def exp_series(a: np.ndarray) -> np.ndarray:
    """Return the exponential of a power series with constant term 0."""
    exp = np.ones(a.size)
    for k in range(1, a.size):
        j = np.arange(1, k + 1)
        exp[k] = (j * a[j] * exp[k - j]).sum() / k
    return exp
