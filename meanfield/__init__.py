"""Mean-field signal propagation in deep networks, right to rounding.

A network in the infinite-width limit is described once (an activation inside layers) and
read out in several ways: variances, correlations, the edge of chaos, Jacobian moments.

    >>> import meanfield as mf
    >>> point = mf.edge_of_chaos(mf.activation("tanh"), sigma_b=0.3)
    >>> round(float(point.sigma_w), 6)
    1.395584

Importing this package switches JAX to double precision, its one side effect: the science
sits in 1 - chi and 1 - c, which single precision cannot hold. The public names load on
first use, so that `import meanfield` itself does not wait for JAX.
"""

import importlib
import os
import sys
from typing import Any

os.environ.setdefault("JAX_ENABLE_X64", "1")
if "jax" in sys.modules:
    sys.modules["jax"].config.update("jax_enable_x64", True)

_HOMES = {
    "errors": ("MeanFieldError", "MeanFieldWarning", "SolutionError", "Status", "check"),
    "gaussian": ("expect", "expect_pair"),
    "activations": (
        "Activation",
        "activation",
        "centre",
        "from_callable",
        "is_scaled_bounded",
        "mollify",
        "parameter",
        "register_activation",
        "scale",
        "shift",
    ),
    "layers": ("Covariance", "Dense", "Layer", "Moments", "Repeat", "Serial"),
    "maps": ("correlation_map", "correlation_slope", "decorrelation_map"),
    "propagation": ("rollout",),
    "fixedpoint": (
        "CorrelationFixedPoint",
        "SteadyState",
        "steady_state",
    ),
    "portrait": ("FixedPoints", "fixed_points"),
    "criticality": (
        "CriticalPoint",
        "EdgeCurve",
        "critical_point",
        "edge_branches",
        "edge_curve",
        "edge_of_chaos",
    ),
    "limits": ("correlation_fixed_point",),
    "depth": ("DepthScales", "depth_scales"),
    "rates": ("ConvergenceRate", "Regime", "convergence_rate"),
    "universality": ("Verdict", "classify"),
    "description": ("Description", "describe"),
    "assessment": ("Assessment", "assess"),
    "recommendation": ("Cure", "Recommendation", "recommend"),
    "shaping": ("Shaped", "dks", "tat"),
    "curvature": ("Curvature", "curvature_propagation"),
    "phase": ("phase_diagram",),
    "table": ("Tabulated",),
    "tabulation": ("tabulate",),
    "jacobian": ("JacobianMoments", "jacobian_moments"),
    "spectrum": ("JacobianSpectrum", "jacobian_spectrum", "largest_singular_value"),
    "spectral_limits": (
        "SpectralClass",
        "SpectralLimit",
        "bernoulli_limit",
        "smooth_limit",
        "universality_class",
    ),
    "parameter_search": ("Design", "design"),
    "ensemble": ("Comparison", "Simulation", "compare_with_theory", "simulate"),
    "sweep": ("export_results", "load_config", "open_results", "run_sweep"),
    "training": ("load_training", "run_training"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = ("activations", "bounds", "init", "plots")

__all__ = [*_HOME, *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Slow to import, and seldom asked for.
        return importlib.import_module("importlib.metadata").version("meanfield-jax")
    if name in _MODULES:
        return importlib.import_module(f"meanfield.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"meanfield.{_HOME[name]}"), name)
    raise AttributeError(f"module 'meanfield' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
