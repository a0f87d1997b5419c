"""The table of pairs of an activation.

With S = E (φ'(u1) - φ'(u2))²/2 (`meanfield.differences`), Price's theorem gives

    G(θ) = ∫₀^θ S(t) sin t dt / (1 - cos θ),

so that neither G nor S is ever a difference: both keep their digits as c → 1. Where E φ'² is
infinite, as it is if φ jumps, G stands for

    -E (φ(u1) - φ(u2))² / (2q (1 - cos θ)).

A cell is used only where the last terms of its series are small, and the table only if what is
computed directly confirms it at random points.
"""

import functools
from typing import Any, Literal

import jax
import numpy as np

from meanfield.activations.base import Activation
from meanfield.activations.sampling import sampled
from meanfield.chebyshev import TAIL, TERMS, nodes, running_integral, transform
from meanfield.differences import differences
from meanfield.plane import equal
from meanfield.sampled import Sampled
from meanfield.table import ACUTE, ALL_ANGLES, PAIRS, Pairs

# The relative error of G up to which cells are used, what is rounding of E φ'², and what is well
# below it.
PAIR_TOLERANCE, ROUNDING, FAINT = 1e-9, 1e-15, 1e-3
# How many random points are compared with what is computed directly.
CHECKS = 16


@functools.lru_cache(maxsize=64)
def tabulated_pairs(
    tree: Any, leaves: tuple[float, ...], angles: Literal["acute", "obtuse"]
) -> tuple[Pairs, float]:
    """Return the series of g, and their largest error."""
    phi: Activation = jax.tree.unflatten(tree, leaves)
    pairs, error = _series(sampled(phi), ACUTE if angles == "acute" else ALL_ANGLES)
    return (pairs, error) if _agrees(sampled(phi), pairs) else (no_pairs(), 0.0)


@functools.cache
def no_pairs() -> Pairs:
    nothing = np.full((PAIRS.size - 1, ACUTE.size - 1, TERMS, TERMS), np.nan)
    return Pairs(nothing, np.asarray(0.0), np.asarray(2.0), ACUTE)


def _series(phi: Sampled, edges: np.ndarray) -> tuple[Pairs, float]:
    """Return G as series, and their largest error over what is allowed."""
    q, theta = np.exp(nodes(PAIRS).ravel())[:, None], nodes(edges).ravel()
    shape = (PAIRS.size - 1, TERMS, edges.size - 1, TERMS)
    jumps = phi.diverges(2)
    power = -1 if jumps else 1 if (phi.rough.bend != 0).any() else 2
    with np.errstate(all="ignore"):
        apart, doubt, still = differences(phi, not jumps, q.ravel(), edges)
        loss = 2 * np.sin(theta / 2) ** 2
        if jumps:
            deficit, rounding = -apart / (loss * q), np.zeros_like(q)
            doubt = doubt / (loss * q)
        else:
            integral = _integral(edges.size, power) / loss[:, None]
            deficit, doubt = (part / theta**power @ integral.T for part in (apart, doubt))
            rounding = ROUNDING * phi.slope_moment(q.ravel(), 2)[:, None]
        rate = still**2 / 2
        scale = np.exp(rate / q) / theta**power
        # Where all of a cell of q is well below rounding it is 0.
        faint = (np.abs(deficit) <= FAINT * rounding).reshape(shape).all(axis=(1, 2, 3))
        deficit[np.repeat(faint, TERMS)], scale[np.repeat(faint, TERMS)] = 0.0, 1.0
        allowed = np.maximum(PAIR_TOLERANCE * np.abs(deficit), rounding)
        g = (deficit * scale).reshape(shape).transpose(0, 2, 1, 3)
        coefficients = transform() @ g @ transform().T
        sizes = np.abs(coefficients)
        tail = sizes[..., -TAIL:, :].sum(axis=(-2, -1)) + sizes[..., -TAIL:].sum(axis=(-2, -1))
        error = tail / (allowed * scale).reshape(shape).min(axis=(1, 3))
        error = np.where(tail == 0, 0.0, error) + (doubt / allowed).reshape(shape).max(axis=(1, 3))
    certified = error.max(axis=1) <= 1
    coefficients[~certified] = np.nan
    pairs = Pairs(coefficients, np.asarray(rate), np.asarray(float(power)), edges)
    return pairs, float(error[certified].max(initial=0.0))


@functools.cache
def _integral(edges: int, power: int) -> np.ndarray:
    """Return the matrix of ∫ f(t) t^power sin t dt over the first cells of angles."""
    return running_integral(ALL_ANGLES[:edges], lambda t: t**power * np.sin(t))


def _agrees(phi: Sampled, pairs: Pairs) -> bool:
    """Return whether what is computed directly is the same at random points."""
    low, high = pairs.range
    if np.isnan(low):
        return True
    random = np.random.default_rng(0)
    q = np.exp(random.uniform(np.log(low), np.log(high), CHECKS))
    theta = random.uniform(0.0, float(pairs.angles[-1]), CHECKS)
    direct = equal(phi, q, 2 * np.sin(theta / 2) ** 2).apart
    mean = np.zeros(CHECKS) if pairs.power < 0 else phi.slope_moment(q, 2)
    ours = mean - _read(pairs, q, theta)
    # What is not resolved says nothing.
    known = np.isfinite(direct) & np.isfinite(ours)
    agrees = np.abs(ours - direct)[known] <= PAIR_TOLERANCE * np.maximum(mean, direct)[known]
    return bool(known.sum() >= CHECKS // 4 and agrees.all())


def _read(pairs: Pairs, q: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Return G at vectors of variances and angles."""
    places, terms = [], []
    for edges, x in ((PAIRS, np.log(q)), (np.asarray(pairs.angles), theta)):
        cell = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, edges.size - 2)
        local = (2 * x - edges[cell] - edges[cell + 1]) / (edges[cell + 1] - edges[cell])
        places.append(cell)
        terms.append(np.polynomial.chebyshev.chebvander(local, TERMS - 1))
    g = np.einsum("pi,pij,pj->p", terms[0], np.asarray(pairs.g)[places[0], places[1]], terms[1])
    return theta ** float(pairs.power) * np.exp(-float(pairs.rate) / q) * g
