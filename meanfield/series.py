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

import jax
import jax.numpy as jnp

from meanfield.typing import Array


def moments_of_product(moments: Array, count: Array, gaussian: Array) -> Array:
    """Return the moments m_1 ... m_K of Π_j (W_j Wᵀ_j X_j)^count_j, free of one another.

    `moments` has shape (J, K): those of X_j, of mean 1. `gaussian` is 1 where W_j is a square
    Gaussian matrix, E WWᵀ = 1, and 0 where it is orthogonal.
    """
    order = moments.shape[-1]
    one_plus = jnp.zeros(order).at[:2].set(1.0)
    log_one_plus = log_series(one_plus)
    # 1/S = (z/y) / (1 + z) with y = 1/M⁻¹(z).
    inverse = jax.vmap(_inverse)(moments)
    logs = -jax.vmap(log_series)(inverse) + (gaussian - 1.0)[:, None] * log_one_plus
    total = log_one_plus + (count[:, None] * logs).sum(axis=0)
    return jnp.stack([exp_series(k * total)[k - 1] / k for k in range(1, order + 1)])


def _inverse(moments: Array) -> Array:
    """Return y(z)/z where Σ μ_k y^k = z, μ_1 = 1, by Lagrange's inversion."""
    log_f = log_series(moments)
    order = moments.shape[0]
    return jnp.stack([exp_series(-k * log_f)[k - 1] / k for k in range(1, order + 1)])


def log_series(a: Array) -> Array:
    """Return the logarithm of a power series with constant term 1."""
    log = [jnp.zeros(())]
    for k in range(1, a.shape[0]):
        inner = sum((j * log[j] * a[k - j] for j in range(1, k)), jnp.zeros(()))
        log.append(a[k] - inner / k)
    return jnp.stack(log)


def exp_series(a: Array) -> Array:
    """Return the exponential of a power series with constant term 0."""
    exp = [jnp.ones(())]
    for k in range(1, a.shape[0]):
        exp.append(sum((j * a[j] * exp[k - j] for j in range(1, k + 1)), jnp.zeros(())) / k)
    return jnp.stack(exp)
