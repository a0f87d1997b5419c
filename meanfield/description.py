"""What is there to say about one activation? Its facts in one record, and what they mean.

`describe` puts together what the parts of the package find:

    shape             where φ bends and jumps, how steep, how low, linear where      shape.py
    statistics        E φ, E φ², E |φ'|, E φ'², E φ'⁴, E φ'', E φ''², z ~ N(0, 1)    base.py
    response          what it does with inputs N(μ, σ²): silent, saturated units
    initialisation    the gain 1/√(E φ²), and V', χ1 of the network that has it      gains.py
    edge              the edge of chaos at three σb, and how correlations converge there
    verdict           the universality class                                         universality.py

What follows from these numbers is in `meanfield.remarks`.

New here is E |φ'|, the mean factor of a gradient through one unit. |φ'| has a kink wherever φ'
changes sign: these places are bracketed on a grid, bisected to rounding, and cut. Where φ jumps,
|φ'| is the total variation, and the Dirac masses are included.

References
----------
[1] K. He, X. Zhang, S. Ren, J. Sun, Delving deep into rectifiers: surpassing human-level
    performance on ImageNet classification, ICCV 2015, arXiv:1502.01852.
[2] S. Hayou, A. Doucet, J. Rousseau, On the impact of the activation function on deep neural
    networks training, ICML 2019, arXiv:1902.06853.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from meanfield._elementwise import POSITIVE
from meanfield.activations import (
    Activation,
    Relu,
    Shape,
    inactive_fraction,
    saturated_fraction,
    shape,
    shift,
    torch_gain,
)
from meanfield.activations.base import ActivationLike, as_activation
from meanfield.activations.sampling import sampled
from meanfield.arguments import single, untraced
from meanfield.criticality import edge_branches
from meanfield.errors import Status
from meanfield.line import density
from meanfield.panels import NODES, gauss, places
from meanfield.rates import Regime, convergence_rate
from meanfield.remarks import CORRECTIONS, DISCONTINUOUS, REMARKS, Correction
from meanfield.rootfind import close_brackets
from meanfield.universality import Verdict, classify

# The edge of chaos is shown at these standard deviations of the biases.
SIGMA_B = (0.0, 0.1, 0.3)
# Points of a panel at which the sign of φ' is looked at.
SEEN = 40
# A slope below this fraction of the largest has no sign.
ROUNDING = 1e-15
# Beyond this many standard deviations nothing is seen.
FAR = 40.0


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Gaussian statistics for inputs N(0, 1); NaN where a rule does not resolve φ."""

    mean: float
    """E φ."""
    second_moment: float
    """E φ²."""
    absolute_slope: float
    """E |φ'|, the Dirac masses of jumps included."""
    slope_moment_2: float
    """E φ'²."""
    slope_moment_4: float
    """E φ'⁴."""
    mean_curvature: float
    """E φ'', Dirac masses included."""
    kink_curvature: float
    """What of E φ'' are Dirac masses, which automatic differentiation of φ' does not see."""
    curvature_moment: float
    """E φ''², inf where φ' jumps."""
    variance_slope: float
    """dE φ(√q z)²/dq at q = 1."""


@dataclasses.dataclass(frozen=True)
class Response:
    """What φ makes of inputs N(mean, variance)."""

    mean: float
    variance: float
    inactive: float
    """P(φ = 0)."""
    saturated: float
    """P(φ' = 0)."""
    output_mean: float
    """E φ."""
    output_second_moment: float
    """E φ²."""


@dataclasses.dataclass(frozen=True)
class Initialisation:
    """The network that keeps unit variance: σw = `gain` = 1/√(E φ²), σb = 0, q = 1."""

    gain: float
    torch_gain: float | None
    """What `torch.nn.init.calculate_gain` says; None where it knows no such φ."""
    chi: float
    """χ1 = gain² E φ'²."""
    variance_slope: float
    """V'(1) = gain² dE φ²/dq: above 1 the length is unstable."""


@dataclasses.dataclass(frozen=True)
class EdgePoint:
    """A critical network, or with a status that is not OK, that there is none at this σb."""

    sigma_b: float
    q: float
    sigma_w: float
    variance_slope: float
    chi: float
    regime: str | None
    exponent: float
    constant: float
    crossover: float
    """Of `meanfield.rates`: 1 - c (or q) ~ constant/l^exponent from this depth on."""
    law: str
    status: str
    message: str


@dataclasses.dataclass(frozen=True)
class Description:
    """What `describe` finds, in plain Python values."""

    name: str
    formula: str
    source: str
    parameters: dict[str, float]
    smoothness_class: str
    shape: Shape
    relu_distance: float | None
    """sup |φ - relu|; inf if φ does not grow like ReLU, None where it is not sure."""
    statistics: Statistics
    response: Response
    initialisation: Initialisation
    edge: tuple[EdgePoint, ...]
    verdict: Verdict
    remarks: tuple[str, ...]
    corrections: tuple[Correction, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return nested dictionaries and lists ready for JSON.

        JSON has neither NaN nor infinity. Both become None; what was infinite is kept under the
        key `infinite`, by its path: {"shape.maximum": "inf", ...}.
        """
        infinite: dict[str, str] = {}
        return {**_plain(self, "", infinite), "infinite": infinite}


def _plain(value: Any, path: str, infinite: dict[str, str]) -> Any:
    def inner(pairs: Any) -> Iterator[tuple[Any, Any]]:
        for key, item in pairs:
            yield key, _plain(item, f"{path}.{key}" if path else str(key), infinite)

    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return dict(inner((field.name, getattr(value, field.name)) for field in fields))
    if isinstance(value, dict):
        return dict(inner(value.items()))
    if isinstance(value, tuple):
        return [item for _, item in inner(enumerate(value))]
    if isinstance(value, float) and not math.isfinite(value):
        if math.isinf(value):
            infinite[path] = str(value)
        return None
    return value


@untraced
def describe(phi: ActivationLike, mean: float = 0.0, variance: float = 1.0) -> Description:
    """Return what there is to say about an activation: function, statistics, criticality.

    `mean` and `variance` > 0 are those of the inputs whose `response` is asked for. Parameters
    must be concrete scalars. It takes seconds, nearly all of them spent in compiling φ.

    Raises
    ------
    MeanFieldError : φ is no activation or not finite, a parameter is traced or an array, or
        `mean` or `variance` is out of its domain.

    >>> describe(activation("relu")).verdict.universality
    'scale-invariant'
    """
    phi = as_activation(phi)
    mean = single("mean", mean, (np.isfinite, "a finite number"))
    variance = single("variance", variance, POSITIVE)
    form = shape(phi)
    statistics = _statistics(phi, _turns(phi))
    verdict = classify(phi)
    facts = Description(
        name=phi.name or getattr(phi, "label", "") or type(phi).__name__.lower(),
        formula=phi.formula,
        source=phi.source,
        parameters={name: float(getattr(phi, name)) for name in phi.parameters()},
        smoothness_class=_smoothness_class(form.smoothness),
        shape=form,
        relu_distance=_relu_distance(phi, form),
        statistics=statistics,
        response=_response(phi, mean, variance, statistics),
        initialisation=_initialisation(phi, statistics),
        edge=tuple(_edge(phi)),
        verdict=verdict,
        remarks=(),
        corrections=(),
    )
    remarks = tuple(sentence for about in REMARKS for sentence in about(facts))
    corrections = tuple(found for about in CORRECTIONS for found in about(phi, facts))
    return dataclasses.replace(facts, remarks=remarks, corrections=corrections)


def _smoothness_class(smoothness: float) -> str:
    if math.isinf(smoothness):
        return "C^∞"
    if smoothness < 0:
        return DISCONTINUOUS
    return f"C^{smoothness:.0f}" + (" or smoother" if smoothness >= 4 else "")


def _turns(phi: Activation) -> np.ndarray:
    """Return where φ' changes sign within a panel."""
    samples = sampled(phi)
    edges = np.unique(np.clip(samples.upto(FAR).edges, -FAR, FAR))
    x = places(edges[:-1], edges[1:], SEEN)
    values = samples.values(x.ravel())[1].reshape(x.shape)
    size = np.abs(values)
    visible = size > ROUNDING * size.max()
    row, cell = np.nonzero((values[:, 1:] * values[:, :-1] < 0) & visible[:, 1:] & visible[:, :-1])
    ends = x[row, cell], x[row, cell + 1], values[row, cell], values[row, cell + 1]
    return close_brackets(lambda _, x: samples.values(x)[1], *ends)


def _statistics(phi: Activation, turns: np.ndarray) -> Statistics:
    """Return the statistics of N(0, 1); `turns` are where φ' changes sign."""
    samples = sampled(phi)
    rough, edges = samples.rough, samples.upto(FAR).edges
    edges = np.unique(np.concatenate([edges, turns, np.arange(-FAR, FAR + 1)]))
    low, high = edges[:-1], edges[1:]
    x = places(low, high)
    steepness = np.abs(samples.values(x.ravel())[1]).reshape(x.shape) * density(x, np.float64(1.0))
    steepness = float(((high - low) / 2 * (steepness @ gauss(NODES)[1])).sum())
    weight = density(rough.at, np.float64(1.0))
    return Statistics(
        mean=float(phi.mean(1.0)),
        second_moment=float(phi.second_moment(1.0)),
        absolute_slope=steepness + float(np.abs(rough.jump) @ weight),
        slope_moment_2=float(phi.slope_moment(1.0, 2)),
        slope_moment_4=float(phi.slope_moment(1.0, 4)),
        mean_curvature=float(phi.mean_curvature(1.0)),
        kink_curvature=float((rough.bend + rough.jump * rough.at) @ weight),
        curvature_moment=float(phi.curvature_moment(1.0)),
        variance_slope=float(phi.variance_slope(1.0)),
    )


def _response(phi: Activation, mean: float, variance: float, own: Statistics) -> Response:
    outputs = (own.mean, own.second_moment)
    if (mean, variance) != (0.0, 1.0):
        moved = shift(phi, input=-mean)
        outputs = float(moved.mean(variance)), float(moved.second_moment(variance))
    silent, flat = (
        float(fraction(phi, mean, variance)) for fraction in (inactive_fraction, saturated_fraction)
    )
    return Response(mean, variance, silent, flat, *outputs)


def _relu_distance(phi: Activation, form: Shape) -> float | None:
    if None in form.growth:
        return None
    if form.growth != ("bounded", "linear"):
        return math.inf
    gap = shape(phi - Relu())
    if gap.minimum is None or gap.maximum is None:
        return None
    return max(0.0, -gap.minimum, gap.maximum)


def _initialisation(phi: Activation, own: Statistics) -> Initialisation:
    # inf where φ vanishes; its network has no V'.
    weights = 1 / own.second_moment if own.second_moment else math.inf
    return Initialisation(
        gain=math.sqrt(weights),
        torch_gain=torch_gain(phi),
        chi=weights * own.slope_moment_2,
        variance_slope=weights * own.variance_slope,
    )


def _edge(phi: Activation) -> Iterator[EdgePoint]:
    branches = jax.tree.map(np.asarray, edge_branches(phi, np.asarray(SIGMA_B)))
    exists = branches.status == Status.OK
    rates: Any = None
    if exists.any():
        rates = jax.tree.map(np.asarray, convergence_rate(phi, branches.q[exists]))
    places = iter(range(exists.sum()))
    for i, sigma_b in enumerate(SIGMA_B):
        if not exists[i].any():
            yield _nothing(sigma_b, Status(int(branches.status[i, 0])))
        for j in np.flatnonzero(exists[i]):
            at = next(places)
            rate = jax.tree.map(lambda x, at=at: x[at], rates)
            yield EdgePoint(
                sigma_b=sigma_b,
                q=float(branches.q[i, j]),
                sigma_w=float(branches.sigma_w[i, j]),
                variance_slope=float(branches.slope[i, j]),
                chi=1.0,
                regime=Regime(int(rate.regime)).name if rate.status == Status.OK else None,
                exponent=float(rate.exponent),
                constant=float(rate.constant),
                crossover=float(rate.crossover),
                law=rate.law,
                status=Status.OK.name,
                message=Status.OK.message,
            )


def _nothing(sigma_b: float, status: Status) -> EdgePoint:
    nan = math.nan
    return EdgePoint(
        sigma_b, nan, nan, nan, nan, None, nan, nan, nan, "none", status.name, status.message
    )
