"""The data of the figures after Pennington et al. 2018 [1]: spectra that do not depend on detail.

With orthogonal weights and L Var X/(E X)² = σ² fixed, X = φ'², the spectrum of a critical network
converges as L grows to one of two laws: see `meanfield.spectral_limits`. Hard tanh is in the
Bernoulli class, erf in the smooth one. Their q have closed forms: with v = σ²/L,

    hard tanh  P(φ' = 0) = v/(1 + v),            erf  (1 + 4q)/√(1 + 8q) = 1 + v.

`widths` shows how finite networks approach the infinite one: their mean deviates by terms of
relative size L/N [2].

References
----------
[1] J. Pennington, S. Schoenholz, S. Ganguli, The emergence of spectral universality in deep
    networks, AISTATS 2018, arXiv:1802.09979.
[2] B. Hanin, M. Nica, Products of many large random matrices and gradients in deep neural
    networks, Communications in Mathematical Physics 376 (2020), arXiv:1812.05994.
"""

import numpy as np
import scipy.special
import xarray as xr

from meanfield.activations import activation
from meanfield.criticality import edge_of_chaos
from meanfield.ensemble import compare_with_theory, simulate
from meanfield.errors import check
from meanfield.layers import Dense
from meanfield.spectral_limits import bernoulli_limit, smooth_limit
from meanfield.spectrum import jacobian_spectrum
from meanfield.studies.labels import labelled
from meanfield.studies.spectrum import singular_grid

SOURCE = "arXiv:1802.09979"
CLASSES = (("hard_tanh", bernoulli_limit), ("erf", smooth_limit))
SIGMA_SQUARED = (0.25, 1.0, 4.0)
DEPTHS = (8.0, 64.0, 512.0)
# Units of all networks of a width: so many that the standard error is well below the deviation.
WIDTHS = (10, 20, 40, 80)
UNITS = {"q1": 600_000, "c": 600_000, "m2": 80_000}


def variance_for(name: str, relative_variance: float) -> float:
    """Return the q at which φ'² has a relative variance: of hard tanh or of erf."""
    ratio = 1 + relative_variance
    if name == "hard_tanh":
        return float(1 / (2 * scipy.special.erfcinv(relative_variance / ratio) ** 2))
    # y = 1 + 8q solves (1 + y)² = 4 ratio² y.
    excess = ratio**2 - 1
    return float((excess + ratio * np.sqrt(excess)) / 4)


def limits(depths: tuple[float, ...] = DEPTHS, points: int = 160) -> xr.Dataset:
    """Return limiting densities of singular values, those on the way there, and the atoms."""
    shape = (len(CLASSES), len(SIGMA_SQUARED))
    limit_s, limit_density = (np.full((*shape, points), np.nan) for _ in range(2))
    s, density = (np.full((*shape, len(depths), points), np.nan) for _ in range(2))
    place, mass = (np.full(shape, np.nan) for _ in range(2))
    for i, (name, limit_of) in enumerate(CLASSES):
        phi = activation(name)
        for j, variance in enumerate(SIGMA_SQUARED):
            limit = limit_of(variance)
            low, high = (float(np.exp(x / 2)) for x in (limit.log_lambda_min, limit.log_edge))
            t = np.linspace(0, 1, points + 2)[1:-1]
            limit_s[i, j] = low + (high - low) * np.sin(np.pi * t / 2) ** 2
            limit_density[i, j] = limit.singular_density(limit_s[i, j])
            place[i, j], mass[i, j] = np.exp(limit.log_atom / 2), limit.atom_mass
            for k, depth in enumerate(depths):
                q = variance_for(name, variance / depth)
                layer = Dense(phi, float(phi.slope_moment(q, 2)) ** -0.5, 0.0, "orthogonal")
                spectrum = check(jacobian_spectrum(layer, q, depth))
                s[i, j, k] = np.exp(singular_grid(spectrum, points)[-points:])
                density[i, j, k] = spectrum.singular_density(s[i, j, k])
    dims = ("activation", "variance")
    return labelled(
        "Spectra of ever deeper networks converge to two laws",
        SOURCE,
        {
            "activation": ("activation", [name for name, _ in CLASSES], "", "activation"),
            "variance": ("variance", list(SIGMA_SQUARED), "σ²", "variance of λ"),
            "depth": ("depth", list(depths), "L", "number of layers"),
        },
        {
            "limit_s": ((*dims, "point"), limit_s, "s", "singular value in the limit"),
            "limit": ((*dims, "point"), limit_density, "ρ(s)", "density in the limit"),
            "s": ((*dims, "depth", "point"), s, "s", "singular value of L layers"),
            "density": ((*dims, "depth", "point"), density, "ρ(s)", "density of L layers"),
            "atom_s": (dims, place, "s", "singular value with an atom in the limit"),
            "atom_mass": (dims, mass, "m", "mass of the atom in the limit"),
        },
    )


def widths(
    sizes: tuple[int, ...] = WIDTHS, depth: int = 8, part: float = 1.0, seed: int = 0
) -> xr.Dataset:
    """Return how far the means over random networks are from theory, for ever wider ones.

    There are `part` times the usual number of networks.
    """
    phi = activation("tanh")
    layer = Dense(phi, float(edge_of_chaos(phi, 0.3).sigma_w), 0.3)
    deviation, error = (np.full((len(UNITS), len(sizes)), np.nan) for _ in range(2))
    for j, size in enumerate(sizes):
        for i, (quantity, units) in enumerate(UNITS.items()):
            simulation = simulate(
                layer,
                [size] * (depth + 1),
                networks=max(2, int(part * units) // size),
                seed=seed + i,
                jacobians=quantity == "m2",
            )
            rows = compare_with_theory(simulation).rows
            row = next(r for r in rows if (r.quantity, r.layer) == (quantity, depth))
            deviation[i, j] = abs(row.mean / row.theory - 1)
            error[i, j] = row.error / abs(row.theory)
    dims = ("quantity", "width")
    return labelled(
        "Finite networks approach the infinite one",
        "arXiv:1812.05994",
        {
            "quantity": ("quantity", list(UNITS), "", "quantity after all layers"),
            "width": ("width", list(sizes), "N", "width"),
        },
        {
            "deviation": (dims, deviation, "|mean/theory - 1|", "relative deviation of the mean"),
            "error": (dims, error, "σ", "relative standard error of the mean"),
        },
    ).assign_attrs(depth=depth)
