"""The command `meanfield point`: one network at its steady state."""

import math
from typing import Annotated

import typer

from meanfield.cli.inputs import load_activation, one_activation, shown_params
from meanfield.cli.network import choose_weights, given_layer
from meanfield.cli.options import (
    ActivationArgument,
    ActivationOption,
    JsonOption,
    KeepOption,
    ParamOption,
    SigmaBOption,
    SigmaWOption,
)
from meanfield.cli.output import emit


def point(
    activation: ActivationArgument = None,
    named: ActivationOption = None,
    sigma_w: SigmaWOption = None,
    sigma_b: SigmaBOption = None,
    param: ParamOption = None,
    q0: Annotated[
        float | None,
        typer.Option(
            "--q0",
            help="Variance of the first layer's pre-activations, > 0, from which the fixed point "
            "is reached. Without it q0 is 1, or if σw is chosen the q for which it is critical.",
            show_default=False,
        ),
    ] = None,
    keep: KeepOption = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Describe one network: its fixed variance, χ₁, the limit of correlations, moments."""
    from meanfield.errors import Status, require
    from meanfield.fixedpoint import limit_correlation, steady_state
    from meanfield.jacobian import slope_kurtosis

    name = one_activation(activation, named)
    phi = load_activation(name, param)
    if q0 is not None:
        require(math.isfinite(q0) and q0 > 0, "q0", q0, "a finite variance > 0")
    layer, q = given_layer(phi, sigma_w, sigma_b, "gaussian", keep), 0.0
    if sigma_w is None:
        layer, q = choose_weights(layer, sigma_b)
    if q0 is None:
        q0 = q if q > 0 else 1.0
    state = steady_state(layer, q0)
    limit = limit_correlation(layer, state)
    solved = int(state.status) == Status.OK
    status = Status(int(limit.status if solved else state.status))
    record = {
        "activation": name,
        **shown_params(param),
        "sigma_w": float(layer.sigma_w),
        "sigma_b": float(layer.sigma_b),
        "keep": keep,
        "q0": q0,
        "q": float(state.q),
        "slope": float(state.slope),
        "chi": float(state.chi),
        "c": float(limit.c),
        "epsilon": float(limit.epsilon),
        "correlation_slope": float(limit.slope),
        "moment_ratio": float(slope_kurtosis(phi, state.q)) if solved else math.nan,
        "phase": _phase(float(state.chi), keep),
        "status": status.name,
    }
    other = "; from another --q0 it may not" if status == Status.DIVERGES else ""
    emit(record, as_json, f"{name}: {status.message}{other}")


def _phase(chi: float, keep: float) -> str | None:
    if math.isnan(chi):
        return None
    if keep < 1:
        return "none: with dropout c* < 1"
    return "edge" if abs(chi - 1) < 1e-9 else "ordered" if chi < 1 else "chaotic"
