"""The command `meanfield point`: one network at its steady state."""

import math
from typing import Annotated

import typer

from meanfield.cli.inputs import load_activation, shown_params
from meanfield.cli.options import (
    ActivationOption,
    JsonOption,
    KeepOption,
    ParamOption,
    Q0Option,
    SigmaBOption,
)
from meanfield.cli.output import emit


def point(
    activation: ActivationOption,
    sigma_w: Annotated[float, typer.Option("--sigma-w", help="Standard deviation of weights.")],
    sigma_b: SigmaBOption = 0.0,
    param: ParamOption = None,
    q0: Q0Option = 1.0,
    keep: KeepOption = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Describe one network: its fixed variance, χ₁, the limit of correlations, moments."""
    from meanfield.errors import Status, require
    from meanfield.fixedpoint import limit_correlation, steady_state
    from meanfield.jacobian import slope_kurtosis
    from meanfield.layers import Dense

    phi = load_activation(activation, param)
    require(math.isfinite(q0) and q0 > 0, "q0", q0, "a finite variance > 0")
    layer = Dense(phi, sigma_w, sigma_b, keep=keep)
    state = steady_state(layer, q0)
    limit = limit_correlation(layer, state)
    solved = int(state.status) == Status.OK
    status = Status(int(limit.status if solved else state.status))
    record = {
        "activation": activation,
        **shown_params(param),
        "sigma_w": sigma_w,
        "sigma_b": sigma_b,
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
    emit(record, as_json, f"{activation}: {status.message}{other}")


def _phase(chi: float, keep: float) -> str | None:
    if math.isnan(chi):
        return None
    if keep < 1:
        return "none: with dropout c* < 1"
    return "edge" if abs(chi - 1) < 1e-9 else "ordered" if chi < 1 else "chaotic"
