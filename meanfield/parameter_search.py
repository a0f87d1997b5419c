"""Which parameters give an activation what is asked of it, at a given bias?

On the edge of chaos with σb the network of φ_p has a variance q(p), and with it a moment ratio
μ2/μ1², a largest change of correlations sup |R(ρ) - ρ|, a slope V'(q), a rate β of 1 - c ~ β/l, ...
Asked for is that some are at most, others at least, what is given. Of all parameters p with which
that holds those nearest to the present ones p° are found,

    minimise |x - x°|²  such that  g_i(x) ≥ 0,        x = log p where p must be positive, else p,

by sequential quadratic programming (SciPy's SLSQP [1]) with derivatives from values nearby: so
every quantity will do, of every activation. It is begun at p°, and from stretched ones where that
fails.

References
----------
[1] D. Kraft, A software package for sequential quadratic programming, DFVLR-FB 88-28 (1988).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import optimize

from meanfield._elementwise import POSITIVE
from meanfield._struct import on_host
from meanfield.activations import Activation
from meanfield.activations.base import ActivationLike, single_activation
from meanfield.arguments import single, untraced
from meanfield.criticality import CriticalPoint, edge_of_chaos
from meanfield.errors import MeanFieldError, Status, unknown_name
from meanfield.fixedpoint import SteadyState
from meanfield.layers import Dense
from meanfield.observables import Point, observables
from meanfield.rates import convergence_rate
from meanfield.typing import Array

# Factors of the parameters from which the search is begun, one after another.
STARTS = (1.0, 2.0, 4.0, 8.0, 0.5, 0.25)
# What is asked for holds to this, relative to the limit.
TOLERANCE = 1e-7
# Parameters are looked for within this factor of where they begin, and where they are legal.
REACH = 1e4
BISECTIONS = 60
# The step of derivatives, in x.
STEP = 1e-3


@dataclasses.dataclass(frozen=True)
class Design:
    """An `activation`, its parameters that were free, its critical network, and what was asked.

    The status is OK if all that was asked for holds, NO_SOLUTION if no parameters were found with
    which it does; the activation is then the one that was given.
    """

    activation: Activation
    parameters: dict[str, float]
    point: CriticalPoint
    values: dict[str, float]
    status: Status


@untraced
def design(
    phi: ActivationLike,
    sigma_b: float,
    at_most: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    free: Sequence[str] | None = None,
) -> Design:
    """Return φ with the parameters nearest to its own with which limits hold on the edge of chaos.

    Parameters
    ----------
    phi : an activation of numbers, with parameters.
    sigma_b : the standard deviation of biases, > 0.
    at_most, at_least : limits of observables (`meanfield list observables`), such as
        {"moment_ratio": 1.1, "max_deviation": 0.05}, and of "q", "sigma_w", "slope" = V'(q), the
        χ_∥ of the literature, and "rate", the β of 1 - c ~ β/l (or K of K/l²).
    free : the parameters to choose, by default all.

    Raises `MeanFieldError` for what is not legal.
    """
    phi = single_activation(phi)
    sigma_b = single("sigma_b", sigma_b, POSITIVE)
    limits = [*_read(at_most, 1.0), *_read(at_least, -1.0)]
    if not limits:
        raise MeanFieldError("at_most and at_least are empty; ask for something")
    scales = _scales(phi, free)
    search = _Search(phi, sigma_b, limits, scales)
    start = np.array([scale.of(float(getattr(phi, scale.name))) for scale in scales])
    for factor in STARTS:
        begin = np.array([s.moved(x, factor) for s, x in zip(scales, start, strict=True)])
        found = search.nearest(begin, start)
        if found is not None:
            return search.result(found, Status.OK)
    return search.result(start, Status.NO_SOLUTION)


@dataclasses.dataclass(frozen=True)
class _Scale:
    """How a parameter is searched for: its logarithm where it must be positive, and from where to
    where.
    """

    name: str
    positive: bool
    low: float
    high: float

    def of(self, value: float) -> float:
        return math.log(value) if self.positive else value

    def value(self, x: float) -> float:
        return math.exp(x) if self.positive else x

    def moved(self, x: float, factor: float) -> float:
        moved = x + math.log(factor) if self.positive else x * factor
        return min(max(moved, self.low), self.high)


def _scales(phi: Activation, free: Sequence[str] | None) -> list[_Scale]:
    legal = type(phi).parameters()
    names = list(legal) if free is None else list(free)
    for name in names:
        if name not in legal:
            raise unknown_name("parameter of φ", name, legal)
    if not names:
        raise MeanFieldError("phi is not legal; it must have parameters to choose")
    scales = []
    for name in names:
        start, check = float(getattr(phi, name)), legal[name][2]
        positive = start > 0 and not bool(check(0.0)) and not bool(check(-start))
        away = max(abs(start), 1.0)
        low, high = (start / REACH, start * REACH) if positive else (-away * REACH, away * REACH)
        ends = [_last_legal(check, start, end) for end in (low, high)]
        scales.append(_Scale(name, positive, *(math.log(x) if positive else x for x in ends)))
    return scales


def _last_legal(check: Callable[[Any], Any], start: float, end: float) -> float:
    """Return the legal value nearest to `end` on the way to it."""
    if bool(check(end)):
        return end
    for _ in range(BISECTIONS):
        middle = (start + end) / 2
        start, end = (middle, end) if bool(check(middle)) else (start, middle)
    return start


def _read(limits: Mapping[str, float] | None, sign: float) -> list[tuple[str, float, float]]:
    known = {**dict.fromkeys(NETWORK), **observables}
    for name in limits or {}:
        if name not in known:
            raise unknown_name("observable", name, known)
    finite = (np.isfinite, "a finite number")
    return [(name, single(name, limit, finite), sign) for name, limit in (limits or {}).items()]


NETWORK: dict[str, Callable[[Activation, CriticalPoint], Array]] = {
    "q": lambda _, point: point.q,
    "sigma_w": lambda _, point: point.sigma_w,
    "slope": lambda _, point: point.slope,
    "rate": lambda phi, point: convergence_rate(phi, point.q).constant,
}


class _Search:
    """The quantities of the critical network as functions of the numbers that are searched for."""

    def __init__(
        self,
        phi: Activation,
        sigma_b: float,
        limits: list[tuple[str, float, float]],
        scales: list[_Scale],
    ) -> None:
        self.phi, self.sigma_b, self.limits, self.scales = phi, sigma_b, limits, scales

    def _at(self, x: Any) -> Activation:
        given = {name: getattr(self.phi, name) for name in type(self.phi).parameters()}
        chosen = {s.name: s.value(value) for s, value in zip(self.scales, x, strict=True)}
        return dataclasses.replace(self.phi, **given | chosen)  # pyright: ignore[reportArgumentType]

    def _values(self, x: np.ndarray) -> np.ndarray:
        """Return the quantities that are limited; NaN where there is no edge."""
        phi = self._at([float(value) for value in x])
        point = edge_of_chaos(phi, self.sigma_b, "quadrature")
        if point.status != Status.OK:
            return np.full(len(self.limits), np.nan)
        state = SteadyState(point.q, point.slope, jnp.ones(()), point.status)
        layer = Dense(phi, point.sigma_w, self.sigma_b)
        network = Point(layer, state, critical=True)
        found = [
            NETWORK[name](phi, point) if name in NETWORK else observables[name].function(network)
            for name, _, _ in self.limits
        ]
        return np.array([float(value) for value in found])

    def _slopes(self, x: np.ndarray) -> np.ndarray:
        """Return their derivatives, from values at four places in each direction."""
        columns = []
        for i, scale in enumerate(self.scales):
            middle = np.clip(x[i], scale.low + 2 * STEP, scale.high - 2 * STEP)
            values = []
            for k in (-2, -1, 1, 2):
                at = np.array(x)
                at[i] = middle + k * STEP
                values.append(self._values(at))
            columns.append((8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * STEP))
        return np.stack(columns, axis=1)

    def _room(self, x: np.ndarray) -> np.ndarray:
        """Return what is left up to each limit, relative to it; far below 0 without an edge."""
        values = self._values(x)
        limits, signs = (np.array([limit[i] for limit in self.limits]) for i in (1, 2))
        room = signs * (limits - values) / np.maximum(np.abs(limits), 1e-3)
        return np.where(np.isfinite(room), room, -1e3)

    def _room_slopes(self, x: np.ndarray) -> np.ndarray:
        slopes = self._slopes(x)
        limits, signs = (np.array([limit[i] for limit in self.limits]) for i in (1, 2))
        return np.nan_to_num(-(signs / np.maximum(np.abs(limits), 1e-3))[:, None] * slopes)

    def nearest(self, begin: np.ndarray, start: np.ndarray) -> np.ndarray | None:
        """Return the numbers nearest to `start` with which all limits hold, from `begin` on."""
        if np.isnan(self._values(begin)).all():
            # There is no edge, and nothing that says where one is.
            return None
        found = optimize.minimize(
            lambda x: np.sum((x - start) ** 2),
            begin,
            jac=lambda x: 2 * (x - start),
            method="SLSQP",
            bounds=[(s.low, s.high) for s in self.scales],
            constraints={"type": "ineq", "fun": self._room, "jac": self._room_slopes},
            options={"ftol": 1e-14, "maxiter": 200},
        )
        return found.x if self._room(found.x).min() >= -TOLERANCE else None

    def result(self, x: np.ndarray, status: Status) -> Design:
        values = self._values(x)
        parameters = {
            s.name: float(s.value(value)) for s, value in zip(self.scales, x, strict=True)
        }
        phi = self._at([float(value) for value in x])
        point = on_host(edge_of_chaos(phi, self.sigma_b))
        names = [name for name, _, _ in self.limits]
        return Design(
            phi, parameters, point, dict(zip(names, values.tolist(), strict=True)), status
        )
