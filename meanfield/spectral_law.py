"""The law of the squared singular values of one network's Jacobian, solved and read on the host.

A network of numbers is taken apart into dense layers, each at the variance that it sees, and these
into kinds and multiplicities: layers of one kind are a power, and what has one slope everywhere
and orthogonal weights only scales. See `meanfield.free_product` for the equations.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from meanfield._once import once
from meanfield._struct import Hosted
from meanfield.activations.piecewise import Linear
from meanfield.activations.sampling import sampled
from meanfield.errors import MeanFieldError, Status
from meanfield.free_product import ALL, Factor, Known, Stack, along_negative_axis, solve
from meanfield.layers import Dense, Layer, Repeat, Serial
from meanfield.rootfind import close_brackets
from meanfield.series import moments_of_product
from meanfield.slope_law import ORDER, SlopeLaw, slope_law
from meanfield.spectral_gaps import edge_of_stack, support_of
from meanfield.spectral_grid import Atoms, atoms_of, ends_of, on_grid, outline_of, snapped
from meanfield.table import Tabulated

# Mass and moments of the density must come out right to this.
TOLERANCE = 1e-6
# Logarithms of λ that differ by less are equal. Next to an atom is so far above it.
SAME, BESIDE = 1e-13, 1e-10
# By so much rounding may move a mass.
ROUNDING = 1e-14
# A stack may have so many unlike layers; a variance drifts if it changes by more than this.
LONGEST_STACK = 64
DRIFT = 1e-9


class Part(NamedTuple):
    """A dense layer of a stack, the variance that it sees, and how often it stands there."""

    layer: Dense
    variance: float
    times: float


def _on_host(layer: Layer) -> Layer:
    """Return a layer of numbers with what stands for its activations on the host."""

    def stand_in(x: Any) -> Any:
        if not isinstance(x, Hosted):
            return float(np.asarray(x))
        one, width, height = (x.phi if isinstance(x, Tabulated) else x).standard()
        return one.on_host(float(np.asarray(width)), float(np.asarray(height)), x)

    return jax.tree.map(stand_in, layer, is_leaf=lambda x: isinstance(x, Hosted))


def _variance(layer: Layer, q: float) -> float:
    return float(np.ravel(layer.variance(np.array([q])))[0])


def _keeps(layer: Layer, q: float) -> bool:
    return abs(_variance(layer, q) / q - 1) <= DRIFT


def _parts(layer: Layer, q: float) -> list[Part]:
    """Return a stack as its dense layers; a `Repeat` that changes its variance is written out."""
    if isinstance(layer, Dense):
        return [Part(layer, q, 1.0)]
    if isinstance(layer, Repeat):
        if layer.times == 0:
            return []
        if _keeps(layer.layer, q):
            return [p._replace(times=p.times * layer.times) for p in _parts(layer.layer, q)]
        if layer.times > LONGEST_STACK:
            raise MeanFieldError(
                f"times = {layer.times} is not legal at q = {q!r}, which the layer does not keep; "
                f"it must be at most {LONGEST_STACK}, or q a fixed point (steady_state)"
            )
        return _parts(Serial((layer.layer,) * layer.times), q)
    assert isinstance(layer, Serial)
    parts = []
    for part in layer.layers:
        parts += _parts(part, q)
        q = _variance(part, q)
    return parts


@dataclasses.dataclass
class _Kind:
    """Layers that are equal."""

    first: Part
    law: SlopeLaw
    times: float

    @property
    def log_chi(self) -> float:
        """The logarithm of σw² E φ'²/p."""
        layer, law = self.first.layer, self.law
        phi: Any = layer.phi
        chi = (layer.sigma_w * phi.steepness / layer.keep) ** 2 * law.scale
        return float(np.log(chi))

    @property
    def only_scales(self) -> bool:
        """Whether the Jacobian is a multiple of an orthogonal matrix."""
        return self.first.layer.ensemble == "orthogonal" and self.law.heaviest[1] >= ALL

    def has(self, part: Part) -> bool:
        """Return whether a layer is of this kind."""
        ours, theirs = self.first.layer, part.layer
        own: Any = ours.phi
        other: Any = theirs.phi
        same = own.one is other.one and ours.ensemble == theirs.ensemble
        return (
            same
            and abs(part.variance / self.first.variance - 1) <= DRIFT
            and all(a == b for a, b in zip(_numbers(ours), _numbers(theirs), strict=True))
        )


def _numbers(layer: Dense) -> tuple[Any, ...]:
    phi: Any = layer.phi
    return phi.width, phi.height, layer.sigma_w, layer.keep


def _kinds(parts: list[Part]) -> list[_Kind]:
    kinds: list[_Kind] = []
    for part in parts:
        kind = next((kind for kind in kinds if kind.has(part)), None)
        if kind:
            kind.times += part.times
            continue
        phi: Any = part.layer.phi
        law = slope_law(phi.one, part.variance / phi.width**2, float(part.layer.keep))
        kinds.append(_Kind(part, law, part.times))
    if len(kinds) > LONGEST_STACK:
        raise MeanFieldError(
            f"a stack of {len(kinds)} layers is not legal; at most {LONGEST_STACK} are, or a "
            "Repeat at a variance that it keeps"
        )
    return kinds


class Network(NamedTuple):
    """A stack of layers, log E λ, and why it has no spectrum; OK if it may have one."""

    stack: Stack
    log_mean: float
    status: Status


def network(layer: Layer, q: float, depth: float) -> Network:
    """Return `depth` repetitions of a layer of numbers at a variance q > 0."""
    with np.errstate(all="ignore"):
        kinds = _kinds(_parts(_on_host(layer), q))
        log_mean = depth * sum(kind.times * kind.log_chi for kind in kinds)
        kept = [kind for kind in kinds if not kind.only_scales] or kinds[:1]
        factors = [
            Factor(kind.law, kind.times * depth, kind.first.layer.ensemble == "gaussian")
            for kind in kept
        ]
    if not factors:
        factors = [Factor(slope_law(sampled(Linear()), 1.0, 1.0), depth, False)]
    means = [kind.law.mean for kind in kinds]
    status = Status.OK
    if not all(kind.law.resolved for kind in kinds):
        status = Status.NOT_CONVERGED
    if 0.0 in means or any(kind.first.layer.sigma_w == 0 for kind in kinds):
        status = Status.NO_SOLUTION
    if np.inf in means:
        status = Status.NONFINITE
    return Network(Stack(tuple(factors)), log_mean, status)


def log_largest(tree: Any, leaves: tuple[float, ...]) -> float:
    """Return the logarithm of the largest singular value, NaN where there is none.

    The network is given like that of `spectral_law`.
    """
    stack, log_mean, status = network(*jax.tree.unflatten(tree, leaves))
    if status != Status.OK:
        return np.nan
    ends = ends_of(stack, 1)
    edge = ends[0] if stack.is_law else edge_of_stack(stack, ends, 1.0)
    atoms, _ = atoms_of(stack)
    top = np.append(atoms.place, snapped(stack, atoms, np.array(edge))).max()
    return float(top + log_mean) / 2


@dataclasses.dataclass(frozen=True, eq=False)
class SpectralLaw:
    """The law of λ; logarithms of λ are those of λ/E λ where nothing else is said."""

    stack: Stack
    start: tuple[np.ndarray, np.ndarray]
    log_mean: float
    """log E λ."""
    exact: np.ndarray
    """E λ^k/(E λ)^k, k = 1 ... 8, from the series."""
    moments: np.ndarray
    """The same from the density."""
    mass: float
    below: float
    """The mass between 0 and the lowest point of the grid."""
    support: np.ndarray
    """The bands of the continuous part, of shape (bands, 2)."""
    low: float
    high: float
    """The ends of the spectrum, atoms included."""
    atoms: Atoms
    known: Known
    """Where the density was integrated, and Ω there."""
    grid_density: np.ndarray
    """λρ(λ) there."""
    above: np.ndarray
    """P(> λ) there."""

    @once
    def _same(self) -> float:
        """What rounding does to a logarithm of λ."""
        return SAME * max(1.0, abs(self.log_mean))

    def _above(self, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return λρ(λ) and P(> λ) at log x, NaN where not resolved.

        An atom is not above the points that rounding may have moved off it.
        """
        apart = np.abs(log_x[:, None] - self.atoms.place)
        nearest = apart.argmin(axis=1)
        at_atom = apart.min(axis=1) <= self._same
        log_x = np.where(at_atom, self.atoms.place[nearest] + BESIDE, log_x)
        # Beyond the continuous part there are atoms alone.
        beyond = log_x >= self.support.max(initial=-np.inf)
        above = np.where(self.atoms.place > log_x[:, None], self.atoms.mass, 0.0).sum(axis=1)
        above, density = np.where(beyond, above, np.nan), np.where(beyond, 0.0, np.nan)
        inside = np.flatnonzero(~beyond & ~np.isnan(log_x))
        if inside.size:
            at = log_x[inside]
            found = solve(self.stack, self.start, at, self.known.guess(at))
            density[inside] = np.where(found.resolved, found.log_density, np.nan)
            above[inside] = np.where(found.resolved, found.above, np.nan)
        # Next to nothing is left below the grid, and nothing below the support.
        lower = log_x < self.support[:1, 0].max(initial=-np.inf)
        limit = 1 - np.where(self.atoms.place <= log_x[:, None], self.atoms.mass, 0.0).sum(axis=1)
        above = np.where(lower, np.clip(above, limit - self.below, limit), above)
        nothing = np.isneginf(log_x) | ((log_x < self.low) & (not self.stack.is_law))
        return np.where(nothing, 0.0, density), np.where(nothing, limit, above)

    def log_density(self, log_x: np.ndarray) -> np.ndarray:
        """Return the density of log λ of the continuous part."""
        return self._above(log_x - self.log_mean)[0]

    def log_cdf(self, log_x: np.ndarray) -> np.ndarray:
        """Return P(log λ <= log_x)."""
        return 1.0 - self._above(log_x - self.log_mean)[1]

    def density(self, x: np.ndarray) -> np.ndarray:
        """Return the density of the continuous part at λ = x; 0 for x <= 0."""
        safe = np.where(x <= 0, 1.0, x)
        return np.where(x <= 0, 0.0, self.log_density(np.log(safe)) / safe)

    def singular_density(self, s: np.ndarray) -> np.ndarray:
        """Return the density of the continuous part of singular values at s; 0 for s <= 0."""
        safe = np.where(s <= 0, 1.0, s)
        return np.where(s <= 0, 0.0, 2 * self.log_density(2 * np.log(safe)) / safe)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Return P(λ <= x)."""
        value = self.log_cdf(np.log(np.where(x <= 0, 1.0, x)))
        return np.where(
            x > 0, value, np.where(x == 0, self.atoms.mass[0], np.where(np.isnan(x), x, 0.0))
        )

    def quantile(self, p: np.ndarray) -> np.ndarray:
        """Return the least x with P(λ <= x) >= p; 0 if it is below the grid."""
        return np.exp(self.log_quantile(p))

    def log_quantile(self, p: np.ndarray) -> np.ndarray:
        """Return the logarithm of `quantile`: -inf where that is 0."""
        nil = self.atoms.mass[0] + self.below
        found = np.where(p <= nil + ROUNDING, -np.inf, np.nan)
        left = np.flatnonzero(np.isnan(found) & (p <= 1))
        found[left] = self._crossings(p[left]) + self.log_mean
        return found

    def _crossings(self, p: np.ndarray) -> np.ndarray:
        """Return where P(<= λ) reaches p, from above within rounding."""
        # Right below an atom, and at it.
        steps = (self.atoms.place[1:, None] + np.array([-2.0, 0.0]) * self._same).ravel()
        known = np.append(1 - self.above, 1 - self._above(steps)[1])
        ends = np.append(self.support[:1, 0], self.high)
        places = np.concatenate([self.known.log_x, steps, ends])
        known = np.concatenate([known, np.zeros(ends.size - 1), [1.0]])
        places, known = places[~np.isnan(known)], known[~np.isnan(known)]
        order = np.argsort(places, kind="stable")
        places, known = places[order], np.maximum.accumulate(known[order])
        right = np.minimum(np.searchsorted(known + ROUNDING, p), known.size - 1)
        left = np.maximum(right - 1, 0)
        root = places[right]
        open_ = np.flatnonzero(places[right] - places[left] > 2 * self._same)

        def lack(at: np.ndarray, x: np.ndarray) -> np.ndarray:
            return 1 - self._above(x)[1] - p[open_[at]]

        low, high = places[left[open_]], places[right[open_]]
        f_low = known[left[open_]] - p[open_]
        f_high = np.maximum(known[right[open_]] - p[open_], 0.0)
        root[open_] = close_brackets(lack, low, high, f_low, f_high) + self._same
        return root


@functools.lru_cache(maxsize=256)
def spectral_law(tree: Any, leaves: tuple[float, ...]) -> tuple[SpectralLaw | None, Status]:
    """Return the law of (layer, q, depth), given by its leaves, and its status.

    There is no law where its status is not OK.
    """
    found = network(*jax.tree.unflatten(tree, leaves))
    if found.status != Status.OK:
        return None, found.status
    with np.errstate(all="ignore"):
        law = _solved(found.stack, found.log_mean)
    right = np.abs(np.append(law.mass, law.moments[:2] / law.exact[:2]) - 1) <= TOLERANCE
    return (law, Status.OK) if right.all() else (None, Status.NOT_CONVERGED)


def _solved(stack: Stack, log_mean: float) -> SpectralLaw:
    start = along_negative_axis(stack)
    gaussian = np.array([float(factor.gaussian) for factor in stack.factors])
    exact = moments_of_product(stack.powers, stack.count[:, 0], gaussian)
    atoms, cut = atoms_of(stack)
    outline = outline_of(stack, atoms)
    grid = on_grid(stack, start, outline, atoms, cut, exact)
    cells = grid.cells
    log_x, weights = cells.x.ravel(), (cells.weights * cells.values).ravel()
    orders = np.arange(1, ORDER + 1)[:, None]
    moments = (np.exp(orders * log_x) * weights).sum(axis=1)
    moments += (np.exp(orders * atoms.place) * atoms.mass).sum(axis=1)
    moments += grid.hidden * np.exp(orders[:, 0] * (outline.high - cut / 3))
    order = np.argsort(log_x)
    *omega, above = cells.carried.reshape(log_x.size, cells.carried.shape[-1])[order].T
    return SpectralLaw(
        stack=stack,
        start=start,
        log_mean=log_mean,
        exact=exact,
        moments=moments,
        mass=float(weights.sum() + atoms.mass.sum() + grid.below + grid.hidden),
        below=grid.below,
        support=support_of(grid.floor, outline.high, outline.gaps),
        low=-np.inf if atoms.mass[0] > 0 else outline.low,
        high=max(outline.high, atoms.place.max()),
        atoms=atoms,
        known=Known(log_x[order], np.array(omega)),
        grid_density=cells.values.ravel()[order],
        above=above,
    )
