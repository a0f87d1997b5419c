"""Kernel shaping: an activation moved and stretched until a network of given depth is tame.

A shaped activation [1, 2]

    φ̂(x) = γ (φ(αx + β) + δ)

is used with σw = 1 and σb = 0 at the variance q = 1. With Q(q) = E φ̂(√q z)² and C the correlation
map there, its four constants are those with

    DKS:    Q(1) = 1,   Q'(1) = 1,   C'(1) = ψ,   C(0) = 0        (slightly chaotic)
    TAT:    Q(1) = 1,   Q'(1) = 1,   C'(1) = 1,   C''(1) = τ      (on the edge of chaos)

where the slope ψ, or the curvature τ, of one layer makes that of the whole network what was asked
for: ψ^L = ζ for L layers in a row, and L τ. Ever deeper networks so have ever straighter
activations. For the leaky ReLU the slope a takes the place of α and β: TAT asks that correlation 0
becomes η, no more, in the network [2]; the ReLU is homogeneous, so that β = 1 and nothing is asked
of Q'(1) [1].

With f(z) = φ(αz + β) = m + bz + r(z), E r = E zr = 0, what is asked for is free of the terms that
cancel as α falls:

    (C'(1) - 1) Var f = E r'² - E r²,        (Q'(1) - 1) Var f = b E z²r' + E zrr' - E r²

in DKS and, with δ = κ - m, κ² = E r'² - E r² and the sign of E f'', in TAT

    (Q'(1) - 1) E f'² = b E z²r' + E zrr' - E r'² + κ E zr'.

References
----------
[1] J. Martens et al., Rapid training of deep neural networks without skip connections or
    normalization layers using Deep Kernel Shaping, arXiv:2110.01765 (2021).
[2] G. Zhang, A. Botev, J. Martens, Deep learning without shortcuts: shaping the kernel with
    tailored rectifiers, ICLR 2022, arXiv:2203.08120.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from meanfield import smoothed
from meanfield._elementwise import POSITIVE
from meanfield.activations import Activation, LeakyRelu, Relu, activation
from meanfield.activations.base import ActivationLike, single_activation
from meanfield.activations.combinators import Affine
from meanfield.activations.sampling import sampled
from meanfield.arguments import count, single, untraced
from meanfield.errors import MeanFieldError, Status

Map = Callable[[float], float]
Network = int | Callable[[Map, float], float]
"""Layers in a row, or what a local map makes of a number in the network or in its worst part."""

ILLEGAL = "network is not legal; of a map of slope 1 it must make one, and not undo others"
# Inputs β at which α may end are looked for on this grid, at this α, both in units of φ's width.
SHIFTS = np.linspace(-6, 6, 241)
SMALL = 1e-2
# Scales α of the ReLU, whose β is 1.
SCALES = (1e-3, 1e6)
# What is left of the equations, relative to their targets.
SOLVED = 1e-9
TIGHT = 1e-14
# A remainder below this part of E f² is rounding.
FAINT = 1e-24
# log α is searched for within this.
FARTHEST = 40.0


@dataclasses.dataclass(frozen=True)
class Shaped:
    """An `activation` γ (φ(αx + β) + δ), and what it is made of; NaN where there is none.

    `local` is what one layer does: ψ, τ, or what becomes of correlation 0. Use σw = 1, σb = 0.
    """

    activation: Activation
    input_scale: float
    input_shift: float
    output_scale: float
    output_shift: float
    local: float
    status: Status


@untraced
def dks(phi: ActivationLike, network: Network, slope: float = 1.5) -> Shaped:
    """Return φ in the shape of DKS: decorrelation grows by `slope` > 1 in the whole network.

    For a `network` that is not a row of layers, give the function that takes a local map and a
    number, and applies the one to the other as the layers of the network do; where parts of it can
    do more than the whole, the largest of these. For a leaky ReLU its slope is chosen, whatever it
    is. The status is NO_SOLUTION where no constants are found. For an activation of numbers.
    """
    phi = single_activation(phi)
    slope = single("slope", slope, (lambda x: (x > 1) & (x < np.inf), "a finite number > 1"))
    local = _local(network, lambda psi: lambda x: psi * x, 1.0, slope, (1.0, slope))
    if any(float(jump) for jump in phi.jumps()):
        return _nothing(phi, local)
    if isinstance(phi, LeakyRelu):
        part = math.pi * (local - 1) / local
        if part > 1:
            return _nothing(phi, local)
        rest = 1 - part
        slope = rest / (1 + math.sqrt(1 - rest * rest))
        bent = activation("leaky_relu", negative_slope=slope)
        return _scaled(bent, 1.0, 0.0, -float(bent.mean(1.0)), local)
    if isinstance(phi, Relu):
        return _shaped_relu(phi, local)
    found = _solve(phi, lambda seen: seen.excess / seen.variance, local - 1, _gap_of_dks)
    if found is None:
        return _nothing(phi, local)
    seen = _look(phi, *found)
    return _scaled(phi, *found, -float(seen.mean[0]), local)


@untraced
def tat(
    phi: ActivationLike, network: Network, curvature: float = 0.3, correlation: float = 0.9
) -> Shaped:
    """Return φ in the shape of TAT: on the edge of chaos, its map bent by `curvature` > 0 in all.

    The leaky ReLU, whose map has no curvature at 1, has its slope chosen so that the network maps
    correlation 0 to `correlation` in (0, 1). Of a `network` see `dks`. The status is NO_SOLUTION
    where no constants are found: where φ' jumps (but for the leaky ReLU), or a network is too
    shallow for its target. For an activation of numbers.
    """
    phi = single_activation(phi)
    curvature = single("curvature", curvature, POSITIVE)
    correlation = single("correlation", correlation, (lambda x: (x > 0) & (x < 1), "in (0, 1)"))
    if isinstance(phi, LeakyRelu | Relu):
        return _tailored_relu(phi, network, correlation)
    local = _local(network, lambda tau: lambda x: x + tau, 0.0, curvature, (0.0, curvature))
    found = None
    if not any(float(jump) for jump in (*phi.jumps(), *phi.slope_jumps())):
        found = _solve(phi, lambda seen: seen.bend / seen.steepness, local, _gap_of_tat)
    if found is None:
        return _nothing(phi, local)
    seen = _look(phi, *found)
    offset = float((seen.offset - seen.mean)[0])
    return _scaled(phi, *found, offset, local)


def _local(
    network: Network,
    family: Callable[[float], Map],
    start: float,
    target: float,
    within: tuple[float, float],
) -> float:
    """Return the parameter of the local map with which the network brings start to target."""

    def reached(parameter: float) -> float:
        return _through(network, family(parameter), start) - target

    low, high = within
    if not reached(low) <= 0 <= reached(high):
        raise MeanFieldError(ILLEGAL)
    return optimize.brentq(reached, low, high, xtol=TIGHT)


def _through(network: Network, local: Map, start: float) -> float:
    if callable(network):
        return float(network(local, start))
    for _ in range(count("network", network, 1)):
        start = local(start)
    return start


def _tailored_relu(phi: Activation, network: Network, correlation: float) -> Shaped:
    def reached(slope: float) -> float:
        bent = (1 - slope) ** 2 / (1 + slope**2) / math.pi

        def local(c: float) -> float:
            return c + bent * (math.sqrt(max(1 - c * c, 0.0)) - c * math.acos(min(c, 1.0)))

        return _through(network, local, 0.0) - correlation

    if reached(0.0) < 0:
        return _nothing(phi, math.nan)
    if not reached(1.0) <= 0:
        raise MeanFieldError(ILLEGAL)
    slope = optimize.brentq(reached, 0.0, 1.0, xtol=TIGHT)
    local = (1 - slope) ** 2 / (1 + slope**2) / math.pi
    return _scaled(activation("leaky_relu", negative_slope=slope), 1.0, 0.0, 0.0, local)


def _shaped_relu(phi: Relu, local: float) -> Shaped:
    def excess(log_scale: float) -> float:
        seen = _look(phi, math.exp(log_scale), 1.0)
        return float((seen.excess / seen.variance)[0]) - (local - 1)

    low, high = map(math.log, SCALES)
    if excess(low) > 0 or excess(high) < 0:
        return _nothing(phi, local)
    at = math.exp(optimize.brentq(excess, low, high, xtol=TIGHT))
    return _scaled(phi, at, 1.0, -float(_look(phi, at, 1.0).mean[0]), local)


class _Seen(NamedTuple):
    """What f(z) = φ(αz + β) = m + bz + r(z) is made of, vectors over β."""

    mean: np.ndarray
    variance: np.ndarray
    steepness: np.ndarray
    """E f'²."""
    excess: np.ndarray
    """E r'² - E r²."""
    offset: np.ndarray
    """κ of TAT."""
    bend: np.ndarray
    """E f''²."""
    remainder: np.ndarray
    """E r²."""
    slope_remainder: np.ndarray
    """E r'²."""
    twist: np.ndarray
    """b E z²r' + E zrr'."""
    tilt: np.ndarray
    """E zr' = E f''."""


def _look(phi: Activation, alpha: float, beta: Any) -> _Seen:
    beta = np.atleast_1d(np.asarray(beta, dtype=float))
    samples = sampled(phi)
    samples.upto(float(np.abs(beta).max()) + smoothed.WIDTH * alpha)
    seen = smoothed.smoothed(samples, beta, np.zeros_like(beta), alpha, turns=True)
    # r = α R and r' = α (φ' - E φ'), R the integral of φ' - E φ' over z without its mean.
    spread = seen.slope_variance - seen.lack
    turned = (seen.slope_variance_turn + 2 * spread - seen.lack_turn) / 2
    b, square = alpha * seen.slope, alpha**2
    excess, tilt = square * seen.lack, alpha * seen.bend
    return _Seen(
        mean=seen.mean,
        variance=seen.variance,
        steepness=square * (seen.slope**2 + seen.slope_variance),
        excess=excess,
        offset=np.sign(tilt) * np.sqrt(np.maximum(excess, 0.0)),
        bend=square**2 * smoothed.squared_curvature(samples, beta, alpha),
        remainder=square * spread,
        slope_remainder=square * seen.slope_variance,
        twist=b * alpha * seen.slope_turn + square * turned,
        tilt=tilt,
    )


def _gap_of_dks(seen: _Seen) -> np.ndarray:
    """Return (Q'(1) - 1) Var f, relative to E r²."""
    return seen.twist / seen.remainder - 1


def _gap_of_tat(seen: _Seen) -> np.ndarray:
    """Return (Q'(1) - 1) E f'², relative to E r'²."""
    return (seen.twist + seen.offset * seen.tilt) / seen.slope_remainder - 1


@np.errstate(all="ignore")
def _solve(
    phi: Activation,
    measure: Callable[[_Seen], np.ndarray],
    target: float,
    gap: Callable[[_Seen], np.ndarray],
) -> tuple[float, float] | None:
    """Return α and β > 0, or the β nearest to 0, with the measure at its target and no gap."""

    def at(numbers: np.ndarray) -> list[float]:
        seen = _look(phi, math.exp(np.clip(numbers[0], -FARTHEST, FARTHEST)), numbers[1])
        ratio = float(measure(seen)[0]) / target
        return [math.log(ratio) if ratio > 0 else -FARTHEST, float(gap(seen)[0])]

    width = abs(width_of(phi))
    small, shifts = SMALL * width, SHIFTS * width
    along = _look(phi, small, shifts)
    visible = along.remainder > FAINT * (along.mean**2 + along.variance)
    gaps = np.where(visible, gap(along), np.nan)
    turns = np.flatnonzero(gaps[:-1] * gaps[1:] < 0)
    starts = (shifts[turns] + shifts[turns + 1]) / 2
    for beta in sorted(starts, key=lambda beta: (round(abs(beta) / width, 6), -beta)):
        first = float(measure(_look(phi, small, beta))[0])
        if not first > 0:
            continue
        # What is measured grows like α².
        alpha = small * math.sqrt(target / first)
        found = optimize.root(at, np.array([math.log(alpha), beta]), tol=TIGHT)
        if np.max(np.abs(at(found.x))) < SOLVED:
            return math.exp(found.x[0]), float(found.x[1])
    return None


def width_of(phi: Activation) -> float:
    """Return the width on which φ varies, as far as it is known."""
    if isinstance(phi, Affine):
        return width_of(phi.phi) / float(phi.rate)
    return float(phi.standard()[1])


def _scaled(phi: Activation, alpha: float, beta: float, delta: float, local: float) -> Shaped:
    """Return the shaped activation of unit second moment."""
    centre = -beta / alpha
    moved = Affine(phi, rate=alpha, centre=centre, offset=delta)
    second_moment = float(moved.second_moment(1.0))
    if not second_moment > 0:
        return _nothing(phi, local)
    gamma = 1 / math.sqrt(second_moment)
    shaped = Affine(phi, rate=alpha, centre=centre, gain=gamma, offset=gamma * delta)
    return Shaped(shaped, alpha, beta, gamma, delta, local, Status.OK)


def _nothing(phi: Activation, local: float) -> Shaped:
    return Shaped(phi, math.nan, math.nan, math.nan, math.nan, local, Status.NO_SOLUTION)
