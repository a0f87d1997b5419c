"""Do networks learn more where theory initialises them than where PyTorch does?

Network by network, with the same seed: the accuracy after the last epoch of the one that begins as
PyTorch draws it, over that of the one that begins otherwise. From 1 on the claim is violated.
"""

import numpy as np
import xarray as xr

from meanfield.errors import MeanFieldError, Status
from meanfield.studies.theorem import Comparison, Verdict

NEEDS = ("initialisation", "seed", "epoch", "accuracy")
DEFAULT = "torch"


def better_than_default(dataset: xr.Dataset) -> Verdict:
    """Return how a training with several initialisations compares with the claim.

    Raises `MeanFieldError` where "torch" is not among them, or nothing else is.
    """
    last = dataset.isel(epoch=-1)
    names = [str(name) for name in np.atleast_1d(last["initialisation"].values)]
    if DEFAULT not in names or len(names) == 1:
        raise MeanFieldError(
            f"initialisation = {names} is not legal for better_than_default; "
            f"it must have {DEFAULT!r} and another"
        )
    if "activation" not in last.dims:
        last = last.expand_dims("activation")
    comparisons = []
    for phi in last["activation"].values:
        found = last["accuracy"].sel(activation=phi)
        for name in names:
            if name != DEFAULT:
                ratio = found.sel(initialisation=DEFAULT) / found.sel(initialisation=name)
                comparisons.append(_compared(str(phi), name, ratio))
    places = np.argwhere(last["status"].values != Status.OK)
    unsolved = [
        ", ".join(
            f"{d} = {last[d].values[i]}" for d, i in zip(last["status"].dims, at, strict=True)
        )
        for at in places
    ]
    return Verdict(tuple(comparisons), tuple(unsolved))


def _compared(phi: str, name: str, ratio: xr.DataArray) -> Comparison:
    known = ratio.where(ratio.notnull(), -np.inf)
    at = np.unravel_index(int(known.values.argmax()), known.shape)
    return Comparison(
        activation=phi,
        bound=f"accuracy, {DEFAULT} / {name}",
        worst=float(known.values[at]),
        where={
            str(dim): ratio[dim].values[i]
            for dim, i in zip(ratio.dims, at, strict=True)
            if ratio[dim].dtype.kind in "fiu"
        },
        violations=int(np.count_nonzero(known.values >= 1)),
        points=int(ratio.notnull().sum()),
    )
