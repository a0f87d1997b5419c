"""The command `meanfield phase`: a diagram computed, drawn, kept and summed up."""

from pathlib import Path

import numpy as np

from meanfield.activations.base import Activation
from meanfield.cli.inputs import load_activation, shown_params
from meanfield.cli.output import check_drawing, check_place, emit
from meanfield.errors import MeanFieldError, Status
from meanfield.fixedpoint import steady_state
from meanfield.layers import Dense
from meanfield.phase import phase_diagram, with_edge

# A diagram of more points is not held in memory.
MOST = 10_000_000
# Where σw is not given, answers are looked for on this grid, at so many values of σb. So many
# values up to a little beyond them are then taken.
LOOK, BIASES, FURTHER, POINTS = np.linspace(0.5, 3.0, 41), 7, 0.125, 81


def phase_command(
    activation: str,
    sigma_w: str | None,
    sigma_b: str,
    q0: float,
    keep: float,
    method: str,
    param: list[str] | None,
    plot: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Run the command with the options as they were typed."""
    phi = load_activation(activation, param)
    biases = _axis("--sigma-b", sigma_b)
    chosen = {}
    if sigma_w is None:
        sigma_w = _shown_weights(phi, biases, q0, keep)
        chosen = {"sigma_w": sigma_w}
    axes = [_axis("--sigma-w", sigma_w), biases]
    size = axes[0].size * axes[1].size
    if size > MOST:
        raise MeanFieldError(
            f"--sigma-w {sigma_w} and --sigma-b {sigma_b} make {size} points; "
            f"at most {MOST} are legal here; `meanfield sweep` keeps larger grids on disk"
        )
    if plot:
        check_drawing(plot)
    if plot and min(axis.size for axis in axes) < 2:
        raise MeanFieldError("--plot needs at least two values of σw and of σb")
    if data and (data.suffix != ".zarr" or data.exists()):
        raise MeanFieldError(f"--data {data} is not legal; it must be a .zarr that is new")
    if data:
        check_place(data)

    diagram = phase_diagram(phi, *axes, keep=keep, q0=q0, method=method)  # pyright: ignore[reportArgumentType]
    diagram = with_edge(diagram, phi, keep)
    diagram.attrs["activation"] = activation
    if data:
        diagram.to_zarr(data, zarr_format=3, consolidated=False)
    if plot:
        from meanfield.plots.base import save_as
        from meanfield.plots.diagram import draw_diagram

        save_as(draw_diagram(diagram), plot)
    codes, counts = np.unique(diagram["status"], return_counts=True)
    chi = diagram["chi"].values
    record = {
        "activation": activation,
        **shown_params(param),
        **chosen,
        "q0": q0,
        "keep": keep,
        "points": int(diagram["status"].size),
        # With dropout there is no order: c = 1 is not fixed.
        "ordered" if keep == 1 else "chi_below_1": int((chi < 1).sum()),
        "chaotic" if keep == 1 else "chi_above_1": int((chi > 1).sum()),
        **{Status(int(code)).name: int(n) for code, n in zip(codes, counts, strict=True)},
    }
    for name, path in (("plot", plot), ("data", data)):
        if path:
            record[name] = str(path)
    emit(record, as_json, f"{activation}: phases over σw and σb")


def _shown_weights(phi: Activation, biases: np.ndarray, q0: float, keep: float) -> str:
    """Return the values of σw from the least one to where variances no longer settle."""
    few = np.unique(np.linspace(biases[0], biases[-1], BIASES))
    state = steady_state(Dense(phi, LOOK[:, None], few, keep=keep), q0)
    answered = LOOK[(np.asarray(state.status) == Status.OK).any(axis=1)]
    high = min(answered.max(initial=LOOK[0]) + FURTHER, LOOK[-1]) if answered.size else LOOK[-1]
    return f"{LOOK[0]:g}:{high:g}:{POINTS}"


def _axis(name: str, text: str) -> np.ndarray:
    legal = "start:stop:number, 0 <= start < stop, or one number"
    try:
        start, *rest = text.split(":")
        low = float(start)
        high, count = (float(rest[0]), int(rest[1])) if len(rest) == 2 else (low, 1)
        if len(rest) not in (0, 2) or not 0 <= low <= high < np.inf or count < 1:
            raise ValueError
        if (low == high) != (count == 1):
            raise ValueError
    except (ValueError, IndexError) as error:
        raise MeanFieldError(f"{name} {text!r} is not legal; it must be {legal}") from error
    return np.linspace(low, high, count)
