"""The command `meanfield spectrum`: how the singular values of a deep Jacobian are distributed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meanfield.cli.inputs import critical_sigma_w, load_activation, shown_params
from meanfield.cli.output import check_drawing, emit
from meanfield.errors import MeanFieldError, Status

if TYPE_CHECKING:
    from meanfield.layers import Dense
    from meanfield.spectrum import JacobianSpectrum

QUANTILES = (0.1, 0.5, 0.9)
# Moments E λ^k/(E λ)^k are shown up to this k.
SHOWN_MOMENTS = 4
# What the table says of s, the singular values, and λ = s².
LABELS = {
    "mean": "E λ",
    "moment_ratios": "E λᵏ/(E λ)ᵏ, k = 2, 3, 4",
    "s_min": "smallest s",
    "s_max": "largest s",
    "log_s_max": "log of the largest s",
    "bands": "s has a density on",
    "atoms": "atoms",
    "quantiles": "quantiles of s",
    "below": "mass below the grid",
    "mass": "mass, all told",
}
PAIRS = {
    "bands": "{:.6g} to {:.6g}",
    "atoms": "s = {:.6g}: {:.6g}",
    "quantiles": "{:.0%}: {:.6g}",
}


def spectrum(
    activation: Annotated[
        str, typer.Argument(help="A name from `list activations`, or file.py:function.")
    ],
    sigma_b: Annotated[
        float, typer.Option("--sigma-b", help="Standard deviation of the biases.")
    ] = 0.0,
    sigma_w: Annotated[
        float | None,
        typer.Option("--sigma-w", help="That of the weights; by default the critical one."),
    ] = None,
    depth: Annotated[float, typer.Option("--depth", help="Number of layers.")] = 8,
    ensemble: Annotated[
        str, typer.Option("--ensemble", help="Weights: gaussian or orthogonal.")
    ] = "gaussian",
    keep: Annotated[float, typer.Option("--keep", help="Dropout keeps a unit so often.")] = 1.0,
    q: Annotated[
        float | None,
        typer.Option("--q", help="Variance of pre-activations; by default the fixed point."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", help="A parameter, as name=value. Repeatable."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw it into this .png, .pdf or .svg file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; NaN becomes null.")] = False,
) -> None:
    """Find the spectrum of a deep network's Jacobian: singular values, atoms, edges, moments."""
    from meanfield.layers import Dense
    from meanfield.spectrum import jacobian_spectrum

    if plot:
        check_drawing(plot)
    phi = load_activation(activation, param)
    if sigma_w is None:
        # The constructor checks what the edge of chaos does not: the ensemble and `keep`.
        sigma_w = critical_sigma_w(Dense(phi, 1.0, sigma_b, ensemble, keep))  # pyright: ignore[reportArgumentType]
    layer = Dense(phi, sigma_w, sigma_b, ensemble, keep)  # pyright: ignore[reportArgumentType]
    q = _fixed_variance(layer) if q is None else q
    found = jacobian_spectrum(layer, q, depth)
    status = Status(int(found.status))
    record: dict[str, Any] = {
        "activation": activation,
        **shown_params(param),
        "sigma_w": sigma_w,
        "sigma_b": sigma_b,
        "ensemble": ensemble,
        "keep": keep,
        "q": q,
        "depth": depth,
        **_numbers(found),
        "status": status.name,
    }
    if plot and status == Status.OK:
        from meanfield.plots.spectrum import draw_spectrum
        from meanfield.studies.spectrum import spectrum_data

        dataset = spectrum_data(found).assign_attrs(
            activation=activation, ensemble=ensemble, depth=depth
        )
        draw_spectrum(dataset).savefig(plot, dpi=200)
        record["plot"] = str(plot)
    if not as_json:
        record = _lines(record)
    emit(record, as_json, f"{activation}: {status.message}")


def _fixed_variance(layer: "Dense") -> float:
    from meanfield.fixedpoint import steady_state

    state = steady_state(layer)
    status = Status(int(state.status))
    if status != Status.OK:
        raise MeanFieldError(
            f"--q must be given: the variance has no fixed point at sigma_w = {layer.sigma_w:g}, "
            f"sigma_b = {layer.sigma_b:g} ({status.message})"
        )
    return float(state.q)


def _numbers(found: "JacobianSpectrum") -> dict[str, Any]:
    """Return what is printed of a spectrum: NaN where it is not known, inf beyond 1e308."""
    import numpy as np

    orders = np.arange(1, found.log_moments.size + 1)
    ratios = np.asarray(found.log_moments) - orders * float(found.log_mean)
    bands = np.asarray(found.log_support)
    atoms = zip(found.atoms.log_place.tolist(), found.atoms.mass.tolist(), strict=True)
    with np.errstate(over="ignore"):
        return {
            "mean": float(np.exp(found.log_mean)),
            "moment_ratios": np.exp(ratios)[1:SHOWN_MOMENTS].tolist(),
            "s_min": float(np.exp(found.log_lambda_min / 2)),
            "s_max": float(np.exp(found.log_lambda_max / 2)),
            "log_s_max": float(found.log_lambda_max / 2),
            "bands": np.exp(bands[~np.isnan(bands[:, 0])] / 2).tolist(),
            "atoms": [[float(np.exp(place / 2)), mass] for place, mass in atoms if mass > 0],
            "quantiles": [[p, float(np.sqrt(found.quantile(p)))] for p in QUANTILES],
            "below": float(found.below),
            "mass": float(found.mass),
        }


def _lines(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with its lists as people read them."""
    lines = {}
    for key, value in record.items():
        if not isinstance(value, list):
            lines[LABELS.get(key, key)] = value
        elif value and isinstance(value[0], list):
            pairs = [PAIRS[key].format(*pair) for pair in value]
            lines[LABELS.get(key, key)] = "; ".join(pairs)
        else:
            lines[LABELS.get(key, key)] = ", ".join(f"{x:.10g}" for x in value) or "none"
    return lines
