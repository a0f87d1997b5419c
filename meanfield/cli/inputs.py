"""What a user types, read: activations by name or from a file, and their parameters."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from meanfield.errors import MeanFieldError

if TYPE_CHECKING:
    from meanfield.activations import Activation
    from meanfield.layers import Dense
    from meanfield.sweep.config import GridSpec


def load_activation(name: str, params: list[str] | None) -> "Activation":
    """Return the activation that --activation and --param name."""
    from meanfield.activations.named import named

    return named(name, **shown_params(params))


def _parse_param(text: str) -> tuple[str, float]:
    key, found, value = text.partition("=")
    try:
        if found and key.strip():
            return key.strip(), float(value)
    except ValueError:
        pass
    raise MeanFieldError(f"--param {text!r} is not legal; it must be name=number")


def shown_params(param: list[str] | None) -> dict[str, float]:
    """Return the parameters as they are repeated in the output."""
    pairs = [_parse_param(text) for text in param or []]
    for key, _ in pairs:
        if [k for k, _ in pairs].count(key) > 1:
            raise MeanFieldError(f"--param {key} is given twice; once is legal")
    return dict(pairs)


def load_layer(
    phi: "Activation", sigma_w: float | None, sigma_b: float, ensemble: str, keep: float
) -> "Dense":
    """Return the layer that options name: a critical one without --sigma-w."""
    from meanfield.layers import Dense

    # The constructor checks what the edge of chaos does not: the ensemble and `keep`.
    layer = Dense(phi, 1.0 if sigma_w is None else sigma_w, sigma_b, ensemble, keep)  # pyright: ignore[reportArgumentType]
    if sigma_w is not None:
        return layer
    return dataclasses.replace(layer, sigma_w=_critical_sigma_w(layer))


def _critical_sigma_w(layer: "Dense") -> float:
    """Return the σw with which a layer is critical, whatever its own is."""
    from meanfield.criticality import edge_of_chaos
    from meanfield.errors import Status

    critical = edge_of_chaos(layer.phi, layer.sigma_b)
    status = Status(int(critical.status))
    if status != Status.OK:
        raise MeanFieldError(
            f"--sigma-w must be given: the edge of chaos has no point at sigma_b = "
            f"{layer.sigma_b:g} ({status.message})"
        )
    # V and χ1 know the variance of weights over `keep` alone.
    return float(critical.sigma_w) * math.sqrt(layer.keep)


def fixed_variance(layer: "Dense") -> float:
    """Return the variance q* that layers keep, the one that is reached from 1."""
    from meanfield.errors import Status
    from meanfield.fixedpoint import steady_state

    state = steady_state(layer)
    status = Status(int(state.status))
    if status != Status.OK:
        raise MeanFieldError(
            f"--q must be given, or another --sigma-b: no variance is kept at sigma_w = "
            f"{layer.sigma_w:g}, sigma_b = {layer.sigma_b:g} ({status.message})"
        )
    return float(state.q)


def check_use(spec: "GridSpec", known: set[str], checks: Sequence[str] = ()) -> None:
    """Raise `MeanFieldError` where checks, or figures of a config, need what it does not have.

    `known` are the names of its variables and coordinates.
    """
    needs: list[tuple[str, tuple[str, ...]]] = []
    try:
        # Drawing is slow to import, and seldom asked for.
        if checks:
            from meanfield.studies import checks as all_checks

            needs += [(f"check {name}", all_checks[name].needs) for name in checks]
        if spec.figures:
            from meanfield.plots import figures

            drawn = [figures[name] for name in spec.figures]
            needs += [(f"figure {f.name}", f.needs) for f in drawn if f.data is None]
    except MeanFieldError as error:
        raise MeanFieldError(f"{spec.name}.toml: {error}") from error
    for what, names in needs:
        missing = [name for name in names if name not in known]
        if missing:
            raise MeanFieldError(
                f"{spec.name}.toml: {what} needs {', '.join(missing)} among axes and observables"
            )
