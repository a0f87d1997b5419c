"""Does the scaled-bounded theorem hold on a sweep? Every point against every bound.

A bound is compared as measured/bound: above 1 it is violated. The measured numbers are right
to about 1e-12, so equalities (shtanh meets the sharp bounds) are allowed that much.
"""

import dataclasses

import numpy as np
import xarray as xr

from meanfield import bounds
from meanfield.errors import MeanFieldError, Status

# Allowed for rounding in measured/bound.
SLACK = 1e-9
NEEDS = (
    "a",
    "bias_variance",
    "moment_ratio",
    "max_deviation",
    "max_deviation_full",
    "linear_width",
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One bound on one activation: the worst measured/bound and where it is."""

    activation: str
    bound: str
    worst: float
    where: dict[str, float]
    violations: int
    points: int


@dataclasses.dataclass(frozen=True)
class Verdict:
    """All comparisons, and the points that were not solved."""

    comparisons: tuple[Comparison, ...]
    unsolved: tuple[str, ...]

    @property
    def violations(self) -> int:
        return sum(c.violations for c in self.comparisons)

    @property
    def holds(self) -> bool:
        return not self.violations and not self.unsolved


def scaled_bounded_theorem(dataset: xr.Dataset) -> Verdict:
    """Return how a sweep on the edge of chaos compares with the theorem, printed and sharp.

    `NEEDS` lists the axes and observables that the dataset must have; `MeanFieldError` names what
    is missing.
    """
    missing = [name for name in (*NEEDS, "status") if name not in dataset]
    if missing:
        raise MeanFieldError(f"the dataset has no {', '.join(missing)}; the theorem needs them")
    if "activation" not in dataset.dims:
        dataset = dataset.expand_dims("activation")
    y = dataset["bias_variance"] / dataset["a"] ** 2
    theorem = bounds.scaled_bounded(y.values)
    limit = {
        name: xr.DataArray(np.asarray(getattr(theorem, name)), dims=y.dims, coords=y.coords)
        for name in theorem.__dataclass_fields__
    }
    width, excess = dataset["linear_width"], dataset["moment_ratio"] - 1
    deviation, full = dataset["max_deviation"], dataset["max_deviation_full"]
    exact = y * width**2
    ratios = {
        "(15) max |R(ρ)-ρ|, ρ ≥ 0": deviation / limit["correlation"],
        "(16) μ₂/μ₁² - 1": excess / limit["moment_ratio"],
        "(23) Λ(y) / (a/√q*)": limit["ratio_lower"] / width,
        "(23) (a/√q*) / upper end": width / limit["ratio_upper"],
        "S1 |a/√q* - x_S(y)|, shtanh": abs(width / limit["sharp_ratio_lower"] - 1) / SLACK,
        "S2 x_S(y) / (a/√q*)": limit["sharp_ratio_lower"] / width,
        "S3 (a/√q*) / U(y)": width / limit["sharp_ratio_upper"],
        "S3 max |R(ρ)-ρ| / yU², ρ ≥ 0": deviation / limit["sharp_correlation"],
        "S4 μ₂/μ₁² - 1, sharp": excess / limit["sharp_moment_ratio"],
        "S5 max |R(ρ)-ρ| / 2yx², all ρ": full / (2 * exact),
    }
    solved = dataset["status"] == Status.OK
    names = [str(name) for name in dataset["activation"].values]
    comparisons = [
        _compare(name, bound, ratio.sel(activation=name), solved.sel(activation=name))
        for name in names
        for bound, ratio in ratios.items()
        if name == "shtanh" or not bound.endswith("shtanh")
    ]
    unsolved = [_place(dataset["status"], index) for index in np.argwhere(~solved.values)]
    return Verdict(tuple(comparisons), tuple(str(place) for place in unsolved))


def _compare(name: str, bound: str, ratio: xr.DataArray, solved: xr.DataArray) -> Comparison:
    ratio = ratio.transpose(*solved.dims)
    values = np.where(solved.values, ratio.values, -np.inf)
    at = np.unravel_index(int(np.argmax(values)), values.shape)
    return Comparison(
        activation=name,
        bound=bound,
        worst=float(values[at]),
        where=_place(ratio, at),
        violations=int(np.count_nonzero(values > 1 + SLACK)),
        points=int(np.count_nonzero(solved.values)),
    )


def _place(array: xr.DataArray, index) -> dict:  # pyright: ignore[reportMissingParameterType]
    return {
        str(dim): array[dim].values[i].item() if dim != "activation" else str(array[dim].values[i])
        for dim, i in zip(array.dims, index, strict=True)
    }
