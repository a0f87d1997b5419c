"""Spectra of Jacobians as datasets: what `meanfield.plots.spectrum` draws."""

import numpy as np
import xarray as xr

from meanfield.spectrum import JacobianSpectrum
from meanfield.studies.labels import labelled

# Points of a density, and how far down in log s it is shown where it goes on to 0.
POINTS = 400
SHOWN = 8.0


def singular_grid(
    spectrum: JacobianSpectrum, points: int = POINTS, shown: float = SHOWN
) -> np.ndarray:
    """Return log s at points that resolve the edges of a scalar spectrum, densest there.

    They go down by `shown` from the largest s.
    """
    bands = np.asarray(spectrum.log_support) / 2
    bands = bands[~np.isnan(bands[:, 0])]
    if not len(bands):
        return np.zeros(0)
    bands = np.maximum(bands, bands.max() - shown)
    t = np.linspace(0.0, 1.0, points)
    return np.concatenate(
        [low + (high - low) * np.sin(np.pi * t / 2) ** 2 for low, high in bands if high > low]
    )


def spectrum_data(spectrum: JacobianSpectrum, points: int = POINTS) -> xr.Dataset:
    """Return the densities of singular values and of their logarithms, and the atoms.

    The spectrum is a scalar one, with a status of OK.
    """
    log_s = singular_grid(spectrum, points)
    density = 2 * np.asarray(spectrum.log_density(2 * log_s))
    atoms = np.asarray(spectrum.atoms.mass) > 0
    place = np.asarray(spectrum.atoms.log_place)[atoms] / 2
    return labelled(
        "Singular values of a Jacobian",
        "arXiv:1711.04735",
        {
            "log_s": ("log_s", log_s, "log s", "logarithm of a singular value"),
            "atom_log_s": ("atom", place, "log s", "logarithm of a singular value with an atom"),
        },
        {
            "log_density": ("log_s", density, "ρ(log s)", "density of log s"),
            "distribution": (
                "log_s",
                np.asarray(spectrum.log_cdf(2 * log_s)),
                "P(≤ s)",
                "distribution function of singular values",
            ),
            "atom_mass": (
                "atom",
                np.asarray(spectrum.atoms.mass)[atoms],
                "m",
                "mass of an atom",
            ),
        },
    )
