"""An activation that has been sampled: its Gaussian statistics from arrays, without a compiler.

φ, φ' and, where it is asked for, φ'' are evaluated once, on panels (`meanfield.panels`). What one
Gaussian makes of them are sums over octaves (`meanfield.line`) that reach outwards as far as q
asks. The statistics are those of `meanfield.activations.base`, of vectors of variances. With
u = √q z:

    dE φ²/dq   = E u φ φ' / q + Σ_k J_k φ_k t_k n(t_k; q) / q,
    E φ''      = E u φ' / q + Σ_k J_k t_k n(t_k; q) / q,

where φ jumps by J_k at t_k, with mean φ_k: Dirac masses of kinks need no care. With m, l± the
limits of φ and φ' at 0 from either side, and r = φ - m - l± x,

    q E φ'² - E φ² = q E r'² - E r² - m² - 2m (E φ - m),

which is accurate as q → 0: there r' = ∫ φ'' and r = ∫ r' are integrated, not subtracted.

A sum is NaN where the panels that it sees are not resolved, or end before the sum has died out; it
is inf where it grows until φ overflows, or where φ' has a singularity, or φ a jump, that makes it
so.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from meanfield import line
from meanfield._once import once
from meanfield.panels import LARGEST, LAST, NODES, Panels, gauss, joined, places, sample, transform
from meanfield.rough import Rough, rough_at

# Reaches that are tried one after another, in standard deviations at least WIDTHS. What has been
# asked for before does not change the bits of an answer.
REACHES = (2.0**10, 2.0**16, 2.0**24, 2.0**32, LARGEST)
WIDTHS = 14.0
# Of what lies beyond the last octave, the last one's part of a sum tells.
RIM = 1e-13
# A sum whose error may exceed this part of E |f| is not certified.
TOLERANCE = 1e-11
# A difference is 0 where it is less than this part of its terms.
ROUNDING = 1e-13
# Variances below this are this.
TINY = 2.0**-150
# What is this part of its terms keeps twelve digits.
DIGITS = 1e-3
# Expectations of so few variances are remembered, and so many of them.
FEW, REMEMBERED = 16, 20_000
# No Gaussian is seen further out, in standard deviations.
FAR = 38.5
# r is integrated from 0 up to here.
NEAR = 0.25
# On panels of this part of their place φ has no second derivative, if only values are known.
BLURRED = 1e-4
# φ'^p is not integrable where it grows by this power of the distance.
DIVERGES = -0.995

Pointwise = Callable[[np.ndarray], np.ndarray]


class _Nodes(NamedTuple):
    """φ on both sides of 0 at the nodes of panels that are cut by octaves: axis 0 is the side."""

    low: np.ndarray
    high: np.ndarray
    t: np.ndarray
    phi: np.ndarray
    slope: np.ndarray
    error: np.ndarray
    slope_error: np.ndarray
    size: int


class Column(NamedTuple):
    """A function whose expectation is asked for: its values on either side, and its size there."""

    value: np.ndarray
    size: np.ndarray


class Sampled:
    """The statistics of one activation of numbers, from its samples."""

    def __init__(
        self,
        values: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
        curvature: Pointwise,
        known: tuple[float, ...] = (),
        slopes: bool = True,
    ):
        self.values = values
        self.slopes = slopes
        self.curvature_at = curvature
        self.known = np.asarray(known, dtype=float)
        # Threads share samples, and one of them may extend the panels.
        self._lock = threading.RLock()
        self._reach = 0
        self._panels: Panels | None = None
        self._rings: list[Panels] = []
        self._edges: dict[int, np.ndarray] = {}
        self._weights: dict[str, line.Weights] = {}
        self._bounds: dict[str, line.Weights] = {}
        self._moments: dict[str, np.ndarray] = {}
        self._known: dict[tuple[str, bytes], np.ndarray] = {}
        self.pairs: dict[Any, tuple[float, ...]] = {}
        """What `meanfield.plane` has found."""
        self.series: dict[float, Any] = {}
        """What `meanfield.hermite` has."""

    # Panels

    def upto(self, reach: float) -> Panels:
        """Return the panels up to a reach at least; they end earlier where φ does."""
        with self._lock, np.errstate(all="ignore"):
            while self._panels is None or (
                REACHES[self._reach - 1] < reach
                and self._reach < len(REACHES)
                and not all(self._panels.ends)
            ):
                self._extend()
        return self._panels

    def _extend(self) -> None:
        new = REACHES[self._reach]
        if self._panels is None:
            self._panels = sample(self.values, -new, new, self.known, self.slopes)
            self._rings = [self._panels]
        else:
            old, found = REACHES[self._reach - 1], self._panels
            below, above = found.ends
            if not below:
                self._rings.append(sample(self.values, -new, -old, self.known, self.slopes))
                found = self._rings[-1] + found
            if not above:
                self._rings.append(sample(self.values, old, new, self.known, self.slopes))
                found = found + self._rings[-1]
            self._panels = found
        self._reach += 1
        self._weights.clear()
        for name in (
            "edges",
            "rough",
            "_at_zero",
            "limits",
            "_nodes",
            "_remainders",
            "_curvatures",
        ):
            self.__dict__.pop(name, None)

    @property
    def panels(self) -> Panels:
        """The panels that are known."""
        return self.upto(REACHES[0])

    @property
    def near(self) -> Panels:
        """The panels up to the first reach, whatever else has been asked for."""
        self.upto(REACHES[0])
        return self._rings[0]

    @once
    def edges(self) -> np.ndarray:
        """Edges of as few panels as resolve φ; how far these reach does not move those inside."""
        self.upto(REACHES[0])
        return functools.reduce(np.union1d, map(self._joined, range(len(self._rings))))

    def _joined(self, ring: int) -> np.ndarray:
        if ring not in self._edges:
            self._edges[ring] = joined(self.values, self._rings[ring], self.slopes)
        return self._edges[ring]

    @once
    def rough(self) -> Rough:
        """What φ does at its rough points."""
        return rough_at(self.upto(REACHES[0]).rough, self.values)

    # One Gaussian

    @once
    def _nodes(self) -> _Nodes:
        found = self.upto(REACHES[0])
        reach = min(-found.edges[0], found.edges[-1])
        octave = 2.0 ** np.floor(np.log2(reach))
        count = line.count_within(octave)
        edges = np.union1d(line.octaves(count), np.abs(found.edges))
        edges = edges[edges <= octave]
        low, high = edges[:-1], edges[1:]
        t = places(low, high, NODES)
        with np.errstate(all="ignore"):
            phi, slope = (
                v.reshape(2, *t.shape) for v in self.values(np.concatenate([t, -t]).ravel())
            )
            error, slope_error = (_missed(v) for v in (phi, slope))
        return _Nodes(low, high, t, phi, slope, error, slope_error, count)

    def _columns(self, name: str, t: np.ndarray, phi: np.ndarray, slope: np.ndarray) -> Column:
        side = np.array([1.0, -1.0])[:, None, None]
        if name == "mean":
            return Column(phi, np.abs(phi))
        if name == "second":
            return Column(phi**2, phi**2)
        if name == "even":
            return Column(np.square(phi.sum(axis=0) / 2) * np.ones((2, 1, 1)), phi**2)
        if name in ("odd", "odd_slope"):
            f = phi if name == "odd" else slope
            return Column(np.square((f[0] - f[1]) / 2) * np.ones((2, 1, 1)), f**2)
        if name == "slope_opposite":
            both = slope[0] * slope[1] * np.ones((2, 1, 1))
            return Column(both, np.abs(both))
        if name == "growth":
            still = (self._nodes.phi * self._nodes.slope)[:, 0, 0].mean()
            return Column(side * t * (phi * slope - still), t * np.abs(phi * slope))
        if name == "turn":
            still = self._nodes.slope[:, 0, 0].mean()
            return Column(side * t * (slope - still), t * np.abs(slope))
        if name.startswith("product"):
            power = int(name.removeprefix("product"))
            return Column(phi**power * slope ** (4 - power), phi**power * slope ** (4 - power))
        power = int(name.removeprefix("slope"))
        return Column(slope**power, np.abs(slope) ** power)

    def _rising(self, name: str, t: np.ndarray, slope: np.ndarray, bend: np.ndarray) -> Column:
        """Return u f'/2 of f = φ'^p."""
        power = int(name.removeprefix("rise_slope"))
        size = t * power * np.abs(slope) ** (power - 1) * np.abs(bend) / 2
        side = np.array([1.0, -1.0])[:, None, None]
        return Column(side * t * power * slope ** (power - 1) * bend / 2, size)

    def _mass_heights(self, name: str) -> np.ndarray:
        """Return what Dirac masses a function has at the rough points."""
        rough = self.rough
        if name.startswith("rise_slope"):
            power = int(name.removeprefix("rise_slope"))
            above, below = rough.steep + rough.bend / 2, rough.steep - rough.bend / 2
            return np.where(rough.bend == 0, 0.0, rough.at * (above**power - below**power) / 2)
        if name not in ("growth", "turn"):
            return np.zeros_like(rough.at)
        return rough.jump * rough.at * (rough.middle if name == "growth" else 1.0)

    def _masses(self, name: str, count: int) -> np.ndarray:
        """Return the moments of Dirac masses."""
        found = np.zeros((count, line.NODES))
        for at, height in zip(self.rough.at, self._mass_heights(name), strict=True):
            if height:
                found += height * line.mass(abs(at), count)
        return found

    def weights(self, name: str) -> line.Weights:
        """Return the weights of a function, of its size and of its error, octave by octave.

        They end with the last octave in which the function is finite.
        """
        with self._lock:
            if name not in self._weights:
                self._weigh(name)
            return self._weights[name]

    def _weigh(self, name: str) -> None:
        nodes = self._nodes
        with np.errstate(all="ignore"):
            if name.startswith("curve"):
                bent = self._curvatures
                missed = np.nan_to_num(_missed(bent), posinf=0.0)[..., None]
                columns = [self._curved(name, bend) for bend in (bent, bent + missed)]
            elif name.startswith("rise"):
                columns = [self._rising(name, nodes.t, nodes.slope, self._curvatures)]
            elif name.startswith("rest"):
                columns = [self._remaining(name)]
            else:
                columns = [self._columns(name, nodes.t, nodes.phi, nodes.slope)]
                up = nodes.error[..., None], nodes.slope_error[..., None]
                columns.append(self._columns(name, nodes.t, nodes.phi + up[0], nodes.slope + up[1]))
            column = columns[0]
            error = np.abs(columns[-1].value - column.value)
            values = np.stack([part.sum(axis=0) for part in (*column, error)])
            finite = np.isfinite(values).all(axis=(0, 2))
            last = nodes.t[~finite, 0].min(initial=np.inf)
            inside = nodes.high <= 2.0 ** np.floor(np.log2(last))
            count = min(nodes.size, line.count_within(nodes.high[inside][-1]))
            found = line.moments(nodes.low[inside], nodes.high[inside], values[:, inside], count)
        found[0] += self._masses(name, count)
        self._moments[name] = found[0]
        self._weights[name] = line.Weights.of(line.weights(found))
        places = np.searchsorted(line.octaves(count), nodes.low[inside], side="right") - 1
        heights = np.zeros(count)
        np.maximum.at(heights, places, np.nan_to_num(values[1, inside].max(axis=1)))
        self._bounds[name] = line.Weights.of((heights[:, None] * line.probabilities(count))[None])

    def _sums(self, name: str, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return expectations, whether they are certain, and whether they have not died out."""
        (value, total, error), (_, last, _) = line.sums(self.weights(name), q)
        # Far out, where φ is nearly 0 further in, the density is not known to all digits.
        rounding = line.ROUNDING * self._bound(name, q) + line.doubt(self._moments[name], q)
        rounding[np.isnan(rounding)] = np.inf
        out = last > RIM * np.maximum(total, rounding)
        faint = np.flatnonzero(((rounding > TOLERANCE * np.abs(total)) | (total < 0)) & ~out)
        if not name.startswith("rest"):
            for i in faint:
                value[i], total[i], rim = self._finely(name, float(q[i]))
                error[i], out[i] = 0.0, rim > RIM * total[i]
        if any(self.panels.ends):
            # That φ is 0 as far as it is known says nothing of what lies beyond.
            out |= (total == 0) & (self._nodes.high[-1] < FAR * np.sqrt(q))
        certain = ~out & (error <= TOLERANCE * total) & np.isfinite(total)
        return value, certain, out

    def _bound(self, name: str, q: np.ndarray) -> np.ndarray:
        """Return the sum of what is largest in each octave times its probability."""
        return line.sums(self._bounds[name], q)[0][0]

    def _finely(self, name: str, q: float) -> tuple[float, float, float]:
        """Return an expectation, its size and its rim's, by pieces as wide as the Gaussian."""
        sigma = np.sqrt(q)
        reach = min(FAR * sigma, self._nodes.high[-1])
        edges = np.union1d(np.arange(0.0, reach, sigma), self._nodes.high)
        edges = np.append(edges[edges < reach], reach)
        low, high = edges[:-1], edges[1:]
        t = places(low, high, NODES)
        x = np.concatenate([t, -t]).ravel()
        with np.errstate(all="ignore"):
            phi, slope = (v.reshape(2, *t.shape) for v in self.values(x))
            if name.startswith(("curve", "rise")):
                bend = self.curvature_at(x).reshape(2, *t.shape)
                rises = name.startswith("rise")
                column = self._rising(name, t, slope, bend) if rises else self._curved(name, bend)
            else:
                column = self._columns(name, t, phi, slope)
            weights = (high - low)[:, None] / 2 * gauss(NODES)[1] * line.density(t, np.float64(q))
            value, size = ((part * weights).sum(axis=(0, 2)) for part in column)
        heights = self._mass_heights(name) * line.density(np.abs(self.rough.at), np.float64(q))
        return float(value.sum() + heights.sum()), float(size.sum()), float(size[-1])

    def expect(self, name: str, q: np.ndarray) -> np.ndarray:
        """Return certified expectations of a column at variances q >= 0."""
        q = np.ascontiguousarray(q, dtype=float)
        key = name, q.tobytes()
        with self._lock:
            found = self._known.get(key)
            if found is None:
                found = self._expected(name, q)
                if q.size <= FEW:
                    # One network asks for the same again and again.
                    if len(self._known) > REMEMBERED:
                        self._known.clear()
                    self._known[key] = found
            return found

    def _expected(self, name: str, q: np.ndarray) -> np.ndarray:
        q = np.maximum(np.asarray(q, dtype=float), TINY)
        self.upto(min(WIDTHS * np.sqrt(np.max(q[np.isfinite(q)], initial=0.0)), LARGEST))
        while True:
            value, certain, out = self._sums(name, q)
            ended = self._reach == len(REACHES) or all(self.panels.ends)
            if ended or not out.any() or self.weights(name).size < self._nodes.size:
                break
            self._extend()
        infinite = out & (out.any() and self._overflows(name))
        return np.where(certain, value, np.where(infinite, np.inf, np.nan))

    def _overflows(self, name: str) -> bool:
        """Return whether what ends the octaves of a column is that it is not finite beyond."""
        if self.weights(name).size < self._nodes.size:
            return True
        reach = self._nodes.high[-1]
        with np.errstate(all="ignore"):
            beyond = np.stack(self.values(np.array([-2.0, -1.01, 1.01, 2.0]) * reach))
        return not np.isfinite(beyond).all()

    def mean(self, q: np.ndarray) -> np.ndarray:
        """Return E φ(u)."""
        return np.where(np.asarray(q) == 0, self._at_zero.mean(), self.expect("mean", q))

    def second_moment(self, q: np.ndarray) -> np.ndarray:
        """Return E φ(u)²."""
        return np.where(np.asarray(q) == 0, (self._at_zero**2).mean(), self.expect("second", q))

    def even_moment(self, q: np.ndarray) -> np.ndarray:
        """Return E ((φ(u) + φ(-u))/2)²."""
        return self.expect("even", q)

    def slope_moment(self, q: np.ndarray, power: int) -> np.ndarray:
        """Return E φ'(u)^power; inf if φ jumps."""
        found = self.expect(f"slope{power}", q)
        return np.where(self.diverges(power), np.inf, found)

    def product_moment(self, q: np.ndarray, power: int) -> np.ndarray:
        """Return E φ(u)^power φ'(u)^(4 - power)."""
        found = self.expect(f"product{power}", q)
        return np.where(self.diverges(4 - power), np.inf, found) if power < 4 else found

    def diverges(self, power: int) -> bool:
        """Return whether φ jumps, or φ'^power is not integrable."""
        self._nodes  # noqa: B018  (samples, so that rough points are known)
        return bool((self.rough.jump != 0).any() or (self.rough.power * power < DIVERGES).any())

    def variance_slope(self, q: np.ndarray) -> np.ndarray:
        """Return dE φ(u)²/dq, as E u φ φ'/q or by the derivative of the density.

        That of smaller terms is taken.
        """
        q = np.maximum(np.asarray(q, dtype=float), TINY)
        value = self.expect("growth", q) / q
        with np.errstate(all="ignore"):
            other, size = line.derivatives(self.weights("second"), q)
            size += self._bound("second", q) / q
            terms = self._bound("growth", q)
            doubt = line.doubt(self._moments["second"], q) / q
        # A growth that is faint beside what it is made of has been found by finer pieces.
        faint = line.ROUNDING * terms > TOLERANCE * np.abs(value) * q
        better = (size < terms / q) & ~(faint & (np.abs(other) < DIGITS * size))
        better &= ~(doubt > TOLERANCE * np.abs(other))
        known = np.isfinite(self.second_moment(q))
        return np.where(known & (better | np.isnan(value)), other, value)

    def mean_curvature(self, q: np.ndarray) -> np.ndarray:
        """Return E φ''(u), Dirac masses included."""
        return self.expect("turn", q) / np.maximum(q, TINY)

    def smooth_curvature_moment(self, q: np.ndarray) -> np.ndarray:
        """Return E φ''(u)² without Dirac masses, NaN where φ'' is lost in the rounding of φ."""
        found = self.expect("curve2", q)
        edges = self.panels.edges
        fine = np.diff(edges) < BLURRED * np.maximum(np.abs(edges[1:]), np.abs(edges[:-1]))
        return np.full_like(found, np.nan) if fine.any() and not self.slopes else found

    def curvature_moment(self, q: np.ndarray) -> np.ndarray:
        """Return E φ''(u)²; inf if φ or φ' jumps."""
        found = self.smooth_curvature_moment(q)
        return np.where((self.rough.bend != 0).any() or self.diverges(2), np.inf, found)

    def moment_rate(self, q: np.ndarray, name: str, order: int) -> np.ndarray:
        """Return d^n E f(u)/dq^n of a column f, n >= 1.

        With g = u f'/2 it is d^(n-1)/dq^(n-1) of E g/q, which keeps its digits as q → 0.
        """
        growth = {"mean": "turn", "second": "growth"}.get(name, f"rise_{name}")
        factor = 0.5 if name == "mean" else 1.0
        q = np.maximum(np.asarray(q, dtype=float), TINY)
        known = np.isfinite(self.expect(name, q))
        if name.startswith("slope"):
            known = known & ~self.diverges(int(name.removeprefix("slope")))
        with self._lock:
            if name in ("even", "odd", "odd_slope", "curve2"):
                value, _ = line.derivatives(self.weights(name), q, order)
            elif order == 1:
                value = factor * self.expect(growth, q) / q
            else:
                value, _ = line.derivatives(self.weights(growth), q, order - 1, 1)
                value = factor * value
        return np.where(known, value, np.nan)

    def opposite(self, q: float, of: str) -> float:
        """Return E φ'(u) φ'(-u) of "slope", that of φ'' of "curve", Dirac masses included.

        It is infinite where these meet.
        """
        rough = self.rough
        if (rough.power < 0).any():
            return np.nan
        if of == "curve" and (rough.jump != 0).any():
            # What E φ'(u1) φ'(u2) has of jumps at x and -x grows without end towards c = -1.
            opposite = [rough.jump[rough.at == -t].sum() for t in rough.at]
            meet = float((rough.jump * opposite).sum())
            return -np.inf * meet if meet else np.nan
        masses = rough.jump if of == "slope" else rough.bend
        at, masses = rough.at[masses != 0], masses[masses != 0]
        total = float(self.expect(f"{of}_opposite", np.array([q]))[0])
        for t, mass in zip(at, masses, strict=True):
            meets = masses[at == -t]
            x = -t + np.array([-1e-9, 1e-9]) * max(abs(t), 1.0)
            beside = (self.values(x)[1] if of == "slope" else self.curvature_at(x)).mean()
            height = mass * float(line.density(np.asarray(t), q))
            total += np.inf * height * meets[0] if meets.size else 2 * height * beside
        return total

    def edge_deficit(self, q: np.ndarray) -> np.ndarray:
        """Return q E φ'² - E φ², relatively accurate as q → 0, 0 where it is rounding.

        It is infinite where φ jumps.
        """
        return self._edge_deficit(q)[0]

    def _edge_deficit(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return q E φ'² - E φ², and whether it is found from the remainders."""
        q = np.maximum(np.asarray(q, dtype=float), TINY)
        up, down = q * self.slope_moment(q, 2), self.second_moment(q)
        with np.errstate(all="ignore"):
            rounding = np.isfinite(up) & (np.abs(up - down) <= ROUNDING * (up + down))
            value = np.where(rounding, 0.0, up - down)
            rise, fall = q * self.expect("rest_slope", q), self.expect("rest_square", q)
            mean = self.expect("mean", q) - self.start if self.start else np.zeros_like(q)
            fall = fall + self.start * (self.start + 2 * mean)
            near = np.where(np.abs(rise - fall) <= ROUNDING * (rise + fall), 0.0, rise - fall)
        # The terms of one of the two are smaller.
        better = (rise + fall < up + down) & np.isfinite(up + down)
        return np.where(better, near, value), better

    def edge_bias(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (q E φ'² - E φ²)/E φ'² and its derivative by q."""
        q = np.maximum(np.asarray(q, dtype=float), TINY)
        deficit, near = self._edge_deficit(q)
        mean = self.slope_moment(q, 2)

        def slope(name: str) -> np.ndarray:
            return line.derivatives(self.weights(name), q)[0]

        with np.errstate(all="ignore"):
            turn = slope("slope2")
            far = mean + q * turn - self.variance_slope(q)
            close = self.expect("rest_slope", q) + q * slope("rest_slope") - slope("rest_square")
            if self.start:
                close = close - 2 * self.start * slope("mean")
            growth = np.where(near, close, far)
            return deficit / mean, (growth - deficit / mean * turn) / mean

    @once
    def limits(self) -> np.ndarray:
        """φ and its first three derivatives at 0, from above and from below: shape (4, 2)."""
        sides = np.array([1.0, -1.0])
        edges = self.edges
        reach = np.array([edges[edges > 0][0], -edges[edges < 0][-1]])
        x = sides[:, None] * reach[:, None] * (gauss(NODES)[0] + 1) / 2
        values, slopes = (v.reshape(x.shape) for v in self.values(x.ravel()))
        curves = self.curvature_at(x.ravel()).reshape(x.shape)
        start = np.polynomial.legendre.legvander(-np.ones(1), NODES - 1)[0]
        turn = np.polynomial.legendre.legder(np.eye(NODES))
        turn = (start[: NODES - 1] @ turn) * 2 / reach[:, None] * sides[:, None]
        series = curves @ transform().T
        limits = (v @ transform().T @ start for v in (values, slopes, curves))
        return np.stack([*limits, (series * turn).sum(axis=1)])

    # What remains of φ beyond its limits at 0

    @once
    def _at_zero(self) -> np.ndarray:
        """The limits of φ at 0 from either side."""
        at = self.rough.at == 0
        if at.any() and self.rough.jump[at][0]:
            return self._nodes.phi[:, 0, 0]
        return np.repeat(self.values(np.zeros(1))[0], 2)

    @property
    def start(self) -> float:
        """The mean of φ's limits at 0."""
        return float(self._at_zero.mean())

    @once
    def _curvatures(self) -> np.ndarray:
        t = self._nodes.t
        return self.curvature_at(np.concatenate([t, -t]).ravel()).reshape(2, *t.shape)

    def _curved(self, name: str, curvatures: np.ndarray) -> Column:
        if name == "curve_opposite":
            both = curvatures[0] * curvatures[1]
            return Column(np.stack([both, both]), np.stack([np.abs(both)] * 2))
        values = curvatures ** int(name.removeprefix("curve"))
        return Column(values, np.abs(values))

    @once
    def _remainders(self) -> tuple[np.ndarray, np.ndarray]:
        """Return r and r' at the nodes, integrated from 0 as far as φ is smooth."""
        nodes, side = self._nodes, np.array([1.0, -1.0])[:, None, None]
        limit = nodes.slope[:, :1, :1]
        slope = nodes.slope - limit
        rest = nodes.phi - self.start - side * limit * nodes.t
        rough = self.rough.at
        for i, sign in enumerate((1.0, -1.0)):
            away = sign * rough
            smooth = min(NEAR, away[away > 0].min(initial=np.inf))
            own = nodes.high <= smooth
            half = (nodes.high - nodes.low)[own] / 2
            bend = sign * self._curvatures[i, own]
            if not np.isfinite(bend).all():
                continue
            slopes = _running(half, bend)
            slope[i, own], rest[i, own] = slopes, sign * _running(half, slopes)
        return rest, slope

    def _remaining(self, name: str) -> Column:
        rest, slope = self._remainders
        values = slope**2 if name == "rest_slope" else rest**2
        return Column(values, values)


def _missed(values: np.ndarray) -> np.ndarray:
    """Return by how much the series of panels may miss values at their nodes."""
    return np.abs(values @ transform()[-LAST:].T).max(axis=-1)


def _running(half: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the integral from the first panel's low end to the nodes of panels."""
    within = half[:, None] * (values @ antiderivative().T)
    whole = half * (values @ gauss(NODES)[1])
    return within + (np.cumsum(whole) - whole)[:, None]


@functools.cache
def antiderivative() -> np.ndarray:
    """Return the matrix from values at the nodes to integrals from -1 to the nodes."""
    x = gauss(NODES)[0]
    powers = np.polynomial.legendre.legvander(x, NODES)
    integrals = np.empty((NODES, NODES))
    integrals[:, 0] = x + 1
    for k in range(1, NODES):
        integrals[:, k] = (powers[:, k + 1] - powers[:, k - 1]) / (2 * k + 1)
    return integrals @ transform()
