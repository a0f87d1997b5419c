"""The data of the figures after Pennington et al. 2017 [1]: singular values of critical networks.

A critical network (χ1 = 1) keeps the mean of its Jacobian's squared singular values at 1 whatever
its depth L. Their largest grows like L with Gaussian weights; with orthogonal weights it stays
close to 1 as far as L p0 is small, p0 the part of the pre-activations on which φ' varies.

`densities` sets the theory of infinite widths beside random networks of finite width; `largest`
follows the largest singular value over the depth and over q*. Densities are those of log s: what
is at s = 0 has no place in them.

References
----------
[1] J. Pennington, S. Schoenholz, S. Ganguli, Resurrecting the sigmoid in deep learning
    through dynamical isometry, NeurIPS 2017, arXiv:1711.04735.
"""

import numpy as np
import xarray as xr

from meanfield.activations import activation
from meanfield.criticality import critical_point
from meanfield.ensemble import simulate
from meanfield.errors import check
from meanfield.layers import Dense, Ensemble
from meanfield.spectrum import jacobian_spectrum
from meanfield.studies.labels import labelled
from meanfield.studies.spectrum import singular_grid

SOURCE = "arXiv:1711.04735"
NETWORKS: tuple[tuple[str, Ensemble], ...] = (
    ("linear", "gaussian"),
    ("relu", "orthogonal"),
    ("hard_tanh", "orthogonal"),
    ("erf", "orthogonal"),
)
DEPTHS = (2, 8, 32, 128)
# q* of the networks; those of linear φ and ReLU do not depend on it.
VARIANCE = 0.2
LOWEST, HIGHEST, BINS = -6.0, 3.0, 45
GROWTH = ("relu", "hard_tanh", "erf")
ENSEMBLES: tuple[Ensemble, ...] = ("gaussian", "orthogonal")


def critical_layer(name: str, q: float, ensemble: Ensemble) -> Dense:
    """Return the critical layer whose fixed variance is q."""
    phi = activation(name)
    point = critical_point(phi, q)
    # Rounding may leave the σb² of scale-invariant φ below 0.
    sigma_b = float(np.nan_to_num(point.sigma_b))
    return Dense(phi, float(point.sigma_w), sigma_b, ensemble)


def densities(
    depths: tuple[int, ...] = DEPTHS,
    points: int = 240,
    width: int = 200,
    networks: int = 8,
    seed: int = 0,
) -> xr.Dataset:
    """Return densities of log s by theory and of random networks, and the atoms above 0."""
    shape = (len(NETWORKS), len(depths))
    log_s, density = (np.full((*shape, points), np.nan) for _ in range(2))
    bins = np.linspace(LOWEST, HIGHEST, BINS + 1)
    seen = np.zeros((*shape, BINS))
    place, mass = (np.full(shape, np.nan) for _ in range(2))
    for i, (name, ensemble) in enumerate(NETWORKS):
        layer = critical_layer(name, VARIANCE, ensemble)
        simulation = simulate(
            layer,
            [width] * (max(depths) + 1),
            VARIANCE,
            networks=networks,
            seed=seed,
            spectra=depths,
        )
        for j, depth in enumerate(depths):
            spectrum = check(jacobian_spectrum(layer, VARIANCE, float(depth)))
            grid = singular_grid(spectrum, points, HIGHEST - LOWEST)[-points:]
            log_s[i, j] = grid
            density[i, j] = 2 * np.asarray(spectrum.log_density(2 * grid))
            places, masses = (
                np.asarray(x) for x in (spectrum.atoms.log_place, spectrum.atoms.mass)
            )
            above = np.where(np.isfinite(places), masses, 0.0)
            if above.any():
                best = above.argmax()
                place[i, j], mass[i, j] = places[best] / 2, masses[best]
            with np.errstate(divide="ignore"):
                values = np.log(simulation.singular_values[depth]).ravel()
            seen[i, j] = np.histogram(values, bins)[0] / values.size / np.diff(bins)
    dims = ("network", "depth")
    names = [f"{name}, {ensemble}" for name, ensemble in NETWORKS]
    return labelled(
        "Singular values of critical networks",
        SOURCE,
        {
            "network": ("network", names, "", "activation and weights"),
            "depth": ("depth", list(depths), "L", "number of layers"),
            "bin": ("bin", (bins[1:] + bins[:-1]) / 2, "log s", "logarithm of a singular value"),
        },
        {
            "log_s": ((*dims, "point"), log_s, "log s", "logarithm of a singular value"),
            "density": ((*dims, "point"), density, "ρ(log s)", "density in infinite networks"),
            "seen": ((*dims, "bin"), seen, "ρ(log s)", "density in random networks"),
            "atom_log_s": (dims, place, "log s", "logarithm of the singular value with an atom"),
            "atom_mass": (dims, mass, "m", "mass of the atom"),
        },
    ).assign_attrs(width=width, networks=networks, variance=VARIANCE)


def largest(
    depths: tuple[float, ...] = tuple(2.0 ** np.arange(1, 11)),
    variances: tuple[float, ...] = tuple(np.geomspace(1e-3, 4, 13)),
    depth: float = 64.0,
) -> xr.Dataset:
    """Return the largest singular value over L at q* = 0.2, and over q* at one depth."""
    of_depth = np.full((len(GROWTH), len(ENSEMBLES), len(depths)), np.nan)
    of_variance = np.full((len(GROWTH), len(ENSEMBLES), len(variances)), np.nan)
    for i, name in enumerate(GROWTH):
        phi = activation(name)
        for j, ensemble in enumerate(ENSEMBLES):
            # All at once: one program is compiled for each kind of network.
            q = np.append(np.full(len(depths), VARIANCE), variances)
            layers = Dense(phi, critical_point(phi, q).sigma_w, 0.0, ensemble)
            all_depths = np.append(depths, np.full(len(variances), depth))
            s_max = check(jacobian_spectrum(layers, q, all_depths)).s_max
            of_depth[i, j], of_variance[i, j] = np.split(np.asarray(s_max), [len(depths)])
    dims = ("activation", "ensemble")
    return labelled(
        "The largest singular value of critical networks",
        SOURCE,
        {
            "activation": ("activation", list(GROWTH), "", "activation"),
            "ensemble": ("ensemble", list(ENSEMBLES), "", "ensemble of weights"),
            "depth": ("depth", list(depths), "L", "number of layers"),
            "q": ("q", list(variances), "q*", "fixed variance"),
        },
        {
            "s_max": ((*dims, "depth"), of_depth, "s_max", "largest singular value over L"),
            "s_max_of_q": ((*dims, "q"), of_variance, "s_max", "largest singular value over q*"),
        },
    ).assign_attrs(variance=VARIANCE, depth=depth)
