"""Free products: how the squared singular values of a product of random matrices are distributed.

For a product of free factors, factor j a random matrix with E WWᵀ = 1 (Gaussian, g = 1, or
orthogonal, g = 0) times a diagonal one with squares X_j of mean 1, M = E λ/(ζ - λ) the moment
transform of its squared singular values λ. There are Ω_j(ζ) with E X_j/(Ω_j - X_j) = M and [1]

    ζ = (1 + M)/M · Π_j [ (1 + M)^g · M/(1 + M) · Ω_j ]^n_j,                              (1)

n_j the multiplicity of the factor. Just above the positive real axis

    λ ρ(λ) = -Im M/π,                                                                   (2)
    P(> λ) = ( -arg M + Σ_j n_j [ E arg(Ω_j - X_j) + arg M + g Im M ] )/π,              (3)

(3) because the logarithmic potential of λ, whose derivative in log ζ is 1 + M, integrates in closed
form along (1). So the distribution function is as exact as the density.

**Solution.** On the negative axis everything in (1) is real and monotone, and its solution unique.
From there it is followed along the half circle ζ = λ e^{iα} from α = π to α = 0 by Newton's method
in log Ω: there is no branch point on the way. Every λ is solved by itself; a guess, from solutions
nearby, saves the way if Newton's method converges from it.

**Edges** of the spectrum are where log ζ is stationary for real Ω outside the support of X.

References
----------
[1] J. Pennington, S. Schoenholz, S. Ganguli, Resurrecting the sigmoid in deep learning
    through dynamical isometry, NeurIPS 2017, arXiv:1711.04735.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from meanfield._once import once
from meanfield.line import density as normal_density
from meanfield.slope_law import CHECK, ROUGH, SlopeLaw, preimages, probability
from meanfield.slope_transforms import Transforms, log_below, transforms

# Newton's steps at α = π; angles between π and the width of the spectrum; those in units of it, and
# steps at α = 0, two of them for what (1) to (3) are at the solution by two rules. A guess needs
# fewer.
START_STEPS, LAST_STEPS, NEAR_STEPS = 5, 8, 6
APPROACH = 10
WIDEST_ANGLE, NARROWEST_WIDTH = 2.2, 1e-12
TURN = (*np.geomspace(1.0, 0.005, 10), *np.geomspace(1e-3, 5e-8, 7), *np.zeros(LAST_STEPS))
# A Newton step in log Ω is no longer than this; one that is shorter than the second is the last.
LONGEST, SHORTEST = 1.5, 1e-14
# A solution has a residual of log ζ below this part of the spectrum's width, or a last step in
# log Ω below that part of θ, and two rules differ by no more than the third.
RESIDUAL, STILL, DISAGREEMENT = 1e-8, 1e-7, 1e-6
# Below this part of |M| its imaginary part is rounding.
REAL = 3e-12
# log|Ω| on the negative axis is tabulated here.
LOG_RADII = 6.0 * np.sinh(np.linspace(-4.6, 2.6, 240))
# X is one number if that has this mass.
ALL = 1 - 1e-12
TINY = 1e-300


@dataclasses.dataclass(frozen=True, eq=False)
class Factor:
    """A layer: the law of its squared slopes, its multiplicity, whether weights are Gaussian."""

    law: SlopeLaw
    count: float
    gaussian: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """Layers, and what (1) asks of them: arrays over layers have them as their first axis."""

    factors: tuple[Factor, ...]

    @once
    def count(self) -> np.ndarray:
        """Multiplicities n_j, of shape (layers, 1)."""
        return np.array([[factor.count] for factor in self.factors])

    @once
    def total(self) -> float:
        """The number of layers."""
        return float(self.count.sum())

    @once
    def gaussian(self) -> float:
        """The number of layers with Gaussian weights."""
        return float(sum(factor.count for factor in self.factors if factor.gaussian))

    @once
    def powers(self) -> np.ndarray:
        """E X_j^k, k = 1 ... 8, of shape (layers, 8)."""
        return np.stack([factor.law.powers for factor in self.factors])

    @once
    def width(self) -> float:
        """The standard deviation of λ (E λ = 1), or 1 if that is more."""
        excess = np.maximum(self.powers[:, 1:2] - 1, 0.0)
        width = np.sqrt((self.count * excess).sum() + self.gaussian)
        return float(np.clip(width, NARROWEST_WIDTH, 1.0))

    @property
    def path(self) -> np.ndarray:
        """Angles α through which a solution is followed."""
        widest = WIDEST_ANGLE * self.width
        ratio = np.log(self.width) / APPROACH
        approach = WIDEST_ANGLE * np.exp(ratio * np.arange(APPROACH))
        return np.concatenate([np.full(START_STEPS, np.pi), approach, widest * np.asarray(TURN)])

    @property
    def uniform(self) -> bool:
        """Whether all layers are equal."""
        return len(self.factors) == 1

    @property
    def law(self) -> SlopeLaw:
        """The law of the first layer."""
        return self.factors[0].law

    @property
    def is_law(self) -> bool:
        """Whether λ is a squared slope itself: one layer with orthogonal weights, or many of one
        slope.
        """
        constant = all(factor.law.heaviest[1] >= ALL for factor in self.factors)
        return (self.total == 1 or constant) and self.gaussian == 0

    @property
    def zero_mass(self) -> float:
        """P(λ = 0)."""
        return max(factor.law.zero_mass for factor in self.factors)

    def at(
        self, log_r: np.ndarray, theta: np.ndarray, part: float = 1.0, angle: bool = False
    ) -> Transforms:
        """Return the transforms of every layer at its Ω, of shape (layers, points)."""
        found = [
            transforms(factor.law, r, t, part, angle)
            for factor, r, t in zip(self.factors, log_r, theta, strict=True)
        ]
        return Transforms(*map(np.stack, zip(*found, strict=True)))


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """What is known at values of λ: λρ(λ), P(> λ), whether they are resolved, log Ω of layers."""

    log_density: np.ndarray
    above: np.ndarray
    resolved: np.ndarray
    log_r: np.ndarray
    theta: np.ndarray

    def at(self, places: np.ndarray) -> "Solution":
        """Return what is known at some of the values."""
        fields = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Solution(*(x[..., places] for x in fields))

    def updated(self, places: np.ndarray, other: "Solution") -> "Solution":
        """Return what is known when at some of the values it is `other`."""
        parts = []
        for field in dataclasses.fields(self):
            x = getattr(self, field.name).copy()
            x[..., places] = getattr(other, field.name)
            parts.append(x)
        return Solution(*parts)


class Known(NamedTuple):
    """Ω at ascending log λ: log|Ω| of every layer, and then arg Ω, of shape (2 layers, points)."""

    log_x: np.ndarray
    omega: np.ndarray

    @classmethod
    def of(cls, log_x: np.ndarray, found: Solution) -> "Known":
        """Return what is resolved of some solutions."""
        omega = np.concatenate([found.log_r, found.theta])
        return cls(log_x[found.resolved], omega[:, found.resolved])

    def nearby(self, log_x: np.ndarray) -> np.ndarray:
        """Return log|Ω| and arg Ω between those that are known; NaN if there are none."""
        if not self.log_x.size:
            return np.full((len(self.omega), *log_x.shape), np.nan)
        return np.array([np.interp(log_x, self.log_x, row) for row in self.omega])

    def guess(self, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the same as a guess."""
        log_r, theta = np.split(self.nearby(log_x), 2)
        return log_r, theta


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """Ω of every layer after a step, and what (1) to (3) are read from, of the Ω before it.

    That are M, arg M, the angles of (3), the residual of (1), and the step.
    """

    log_r: np.ndarray
    theta: np.ndarray
    m: np.ndarray
    argument: np.ndarray
    angle: np.ndarray
    error: np.ndarray
    step: np.ndarray


def _newton(
    stack: Stack,
    omega: tuple[np.ndarray, np.ndarray],
    target: np.ndarray,
    part: float = 1.0,
    last: bool = False,
) -> State:
    """Return the state after a step towards log ζ = target, with its angle if it is the last."""
    log_r, theta = omega
    at = stack.at(log_r, theta, part, last)
    ratio = at.log_ratio
    m, argument = at.m[0], np.imag(log_below(at.m[0]))
    value = (stack.count * (log_r + 1j * theta)).sum(axis=0) + (stack.total - 1) * ratio[0]
    value = value + stack.gaussian * log_below(at.one_plus_m[0])
    residual, apart = target - value, ratio[0] - ratio
    pull = stack.count / at.log_slope
    stiffness = pull.sum(axis=0) + stack.total - 1 + m * stack.gaussian
    step = ((residual - (pull * apart).sum(axis=0)) / stiffness + apart) / at.log_slope
    shortened = np.minimum(1.0, LONGEST / np.maximum(np.abs(step), TINY))
    step = np.where(np.isfinite(step), step * shortened, 0.0)
    # (3) without its first term.
    angle = (stack.count * (at.angle + argument)).sum(axis=0) + stack.gaussian * m.imag
    error = np.abs(residual) + np.abs(apart).sum(axis=0)
    theta = np.clip(theta + np.imag(step), 0.0, np.pi)
    return State(log_r + np.real(step), theta, m, argument, angle, error, np.abs(step))


def along_negative_axis(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
    """Return log|Ω| of every layer along the negative axis, and log|ζ| there."""
    shape = (len(stack.factors), LOG_RADII.size)
    here = stack.at(np.broadcast_to(LOG_RADII, shape), np.full(shape, np.pi))
    ratio, log_rest = np.real(here.log_ratio), np.real(log_below(here.one_plus_m))
    # The layer with the largest atom at 0 has the narrowest range of M.
    first = int(np.argmax([factor.law.zero_mass for factor in stack.factors]))
    shared = ratio[first]
    places = np.stack([np.interp(-shared, -r, LOG_RADII) for r in ratio])
    places[first] = LOG_RADII
    value = (stack.count * places).sum(axis=0) + (stack.total - 1) * shared
    return places, value + stack.gaussian * log_rest[first]


def _follow(
    stack: Stack, omega: tuple[np.ndarray, np.ndarray], targets: np.ndarray, path: np.ndarray
) -> Solution:
    """Return the solutions at log λ = targets, from Ω along a path of angles α."""
    for angle in path[:-2]:
        # On the way a solution need not be known to all digits.
        state = _newton(stack, omega, targets + 1j * angle, ROUGH if angle else 1.0)
        omega = state.log_r, state.theta
        if angle == 0 and (state.step <= SHORTEST).all():
            break
    end = _newton(stack, omega, targets, last=True)
    check = _newton(stack, (end.log_r, end.theta), targets, CHECK)
    large = np.maximum(1.0, np.abs(end.m))
    agree = np.abs(end.m - check.m) <= DISAGREEMENT * large
    density = np.maximum(-np.imag(end.m), 0.0)
    density = np.where(density <= REAL * large, 0.0, density) / np.pi
    above = np.clip((end.angle - end.argument) / np.pi, 0.0, 1.0)
    # Close to an edge the step is compared with θ, which vanishes there.
    still = (end.step <= STILL * end.theta).all(axis=0)
    solved = still | (end.error <= RESIDUAL * stack.width * (1 + stack.total / 1e3))
    return Solution(density, above, solved & agree, end.log_r, end.theta)


def _itself(stack: Stack, targets: np.ndarray) -> Solution:
    """Return the law of X itself at log x = targets: one layer with orthogonal weights."""
    law = stack.law
    places = np.log(np.maximum(law.places, TINY))
    above = np.where(places > targets[:, None], law.masses, 0.0).sum(axis=1)
    density = np.zeros_like(targets)
    if not law.discrete:
        z = preimages(law, targets, np.zeros_like(targets)).z
        inside = (targets[:, None] > law.log_x[:, 0]) & (targets[:, None] < law.log_x[:, -1])
        steep = np.where(inside, law.steepness_at(z), 1.0)
        density = np.where(inside, law.keep * normal_density(z, 1.0) / steep, 0.0).sum(axis=1)
        higher = np.abs(probability(law.z[:, -1]) - probability(z))
        above = above + law.keep * higher.sum(axis=1)
    omega = targets[None], np.zeros((1, targets.size))
    return Solution(density, above, np.ones(targets.size, dtype=bool), *omega)


def solve(
    stack: Stack,
    start: tuple[np.ndarray, np.ndarray],
    targets: np.ndarray,
    guess: tuple[np.ndarray, np.ndarray] | None = None,
) -> Solution:
    """Return the solutions at a vector of log λ; `start` is that of `along_negative_axis`.

    A guess is of log|Ω| and arg Ω, of shape (layers, points); NaN where there is none.
    """
    with np.errstate(all="ignore"):
        if stack.is_law:
            return _itself(stack, targets)
        shape = (len(stack.factors), targets.size)
        nothing = np.full(targets.shape, np.nan)
        omega = np.full(shape, np.nan)
        found = Solution(nothing, nothing, np.zeros(targets.size, dtype=bool), omega, omega)
        # A guess is tried first, the path from the negative axis next.
        guessed = (
            np.zeros_like(found.resolved) if guess is None else ~np.isnan(guess[0]).any(axis=0)
        )
        near = np.flatnonzero(guessed)
        if guess is not None and near.size:
            first = guess[0][:, near], guess[1][:, near]
            near_path = np.zeros(NEAR_STEPS)
            found = found.updated(near, _follow(stack, first, targets[near], near_path))
        left = np.flatnonzero(~found.resolved & ~np.isnan(targets))
        if left.size:
            log_r = np.stack([np.interp(targets[left], start[1], row) for row in start[0]])
            first = log_r, np.full_like(log_r, np.pi)
            found = found.updated(left, _follow(stack, first, targets[left], stack.path))
        return found
