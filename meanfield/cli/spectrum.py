"""The command `meanfield spectrum`: how the singular values of a deep Jacobian are distributed."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from meanfield.cli.inputs import load_activation, one_activation, shown_params
from meanfield.cli.network import load_network
from meanfield.cli.options import (
    ActivationArgument,
    ActivationOption,
    EnsembleOption,
    JsonOption,
    KeepOption,
    ParamOption,
    PlotOption,
    SigmaBOption,
    SigmaWOption,
)
from meanfield.cli.output import check_drawing, emit
from meanfield.errors import Status, require

if TYPE_CHECKING:
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
    activation: ActivationArgument = None,
    named: ActivationOption = None,
    sigma_b: SigmaBOption = None,
    sigma_w: SigmaWOption = None,
    depth: Annotated[
        float, typer.Option("--depth", help="Number L of layers, >= 1; it may be a fraction.")
    ] = 8,
    ensemble: EnsembleOption = "gaussian",
    keep: KeepOption = 1.0,
    q: Annotated[
        float | None,
        typer.Option(
            "--q",
            help="Variance q of the pre-activations, > 0. Without it q is the one that the layers "
            "keep.",
            show_default=False,
        ),
    ] = None,
    param: ParamOption = None,
    plot: PlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the spectrum of a deep network's Jacobian: singular values, atoms, edges, moments."""
    from meanfield.spectrum import LAYERS, jacobian_spectrum

    if plot:
        check_drawing(plot)
    name = one_activation(activation, named)
    phi = load_activation(name, param)
    require(LAYERS[0](depth), "depth", depth, LAYERS[1])
    layer, q = load_network(phi, sigma_w, sigma_b, ensemble, keep, q)
    found = jacobian_spectrum(layer, q, depth)
    status = Status(int(found.status))
    record: dict[str, Any] = {
        "activation": name,
        **shown_params(param),
        "sigma_w": layer.sigma_w,
        "sigma_b": layer.sigma_b,
        "ensemble": ensemble,
        "keep": keep,
        "q": q,
        "depth": depth,
        **_numbers(found),
        "status": status.name,
    }
    if plot and status == Status.OK:
        from meanfield.plots.base import save_as
        from meanfield.plots.spectrum import draw_spectrum
        from meanfield.studies.spectrum import spectrum_data

        dataset = spectrum_data(found).assign_attrs(activation=name, ensemble=ensemble, depth=depth)
        save_as(draw_spectrum(dataset), plot)
        record["plot"] = str(plot)
    if not as_json:
        record = _lines(record)
    emit(record, as_json, f"{name}: {status.message}")


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
