"""Independent high-precision definitions of the activations and their Gaussian moments.

Every activation is written out here in mpmath, together with its almost-everywhere derivative
and the points where some derivative jumps.  One- and two-dimensional Gaussian moments are then
computed by panel Gauss-Legendre rules, closed forms and conditional expectations.  Nothing here
shares code with the package under test, which makes the values usable as reference data.

One-dimensional moments hold to about 30 digits.  Pair moments come by one of three routes:

``pair_closed``
    full closed forms (``CLOSED_PAIRS``),
``pair_conditional``
    an exact inner conditional expectation and an outer quadrature in mpmath, for every
    activation whose pieces are polynomials times exponentials (``PIECES``) and for gelu,
``pair_tensor``
    a two-dimensional panel rule in 80-bit floats, for every activation in ``PIECES`` or
    ``SMOOTH``; good to about 17 digits.

All functions compute at the current mpmath precision except ``pair_tensor``;
``mpmath.mp.dps = 40`` is a good choice, ``50`` for ``pair_conditional``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import mpmath
import numpy as np
from mpmath import mp, mpf

Number = mpmath.mpf
Function = Callable[[Number], Number]


class Activation(NamedTuple):
    """An activation function with the facts a quadrature rule needs.

    Attributes
    ----------
    phi, dphi : callable
        The function and its derivative almost everywhere.
    breaks : tuple of mpf
        Points where a derivative of any order jumps.
    scale : mpf
        Length over which the function varies around zero and around its breaks.
    oscillates : bool
        True if the function oscillates without end.
    """

    phi: Function
    dphi: Function
    breaks: tuple[Number, ...] = ()
    scale: Number = mpf(1)
    oscillates: bool = False


def _step(x: Number) -> Number:
    return mpf(1) if x > 0 else mpf(0)


def _sign(x: Number) -> Number:
    return mpf(1) if x > 0 else (mpf(-1) if x < 0 else mpf(0))


def _clip(x: Number, lo: Number, hi: Number) -> Number:
    return min(max(x, lo), hi)


def _inside(x: Number, lo: Number, hi: Number) -> Number:
    return mpf(1) if lo < x < hi else mpf(0)


def _logistic(x: Number) -> Number:
    return 1 / (1 + mp.exp(-x))


def _log1pexp(x: Number) -> Number:
    return max(x, mpf(0)) + mp.log1p(mp.exp(-abs(x)))


def _sech2(x: Number) -> Number:
    return 1 / mp.cosh(x) ** 2


def _density(x: Number) -> Number:
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def _cdf(x: Number) -> Number:
    return mp.erfc(-x / mp.sqrt(2)) / 2


def _odd(f: Function, df: Function) -> tuple[Function, Function]:
    """Extend a function on the positive half-line, and its derivative, to an odd function."""
    return lambda x: _sign(x) * f(abs(x)), lambda x: df(abs(x))


def linear() -> Activation:
    """x."""
    return Activation(lambda x: x, lambda x: mpf(1))


def relu() -> Activation:
    """max(x, 0)."""
    return Activation(lambda x: max(x, mpf(0)), _step, (mpf(0),))


def leaky_relu(negative_slope: str = "0.01") -> Activation:
    """x for x > 0, negative_slope x otherwise."""
    r = mpf(negative_slope)
    return Activation(lambda x: x if x > 0 else r * x, lambda x: mpf(1) if x > 0 else r, (mpf(0),))


def absolute() -> Activation:
    """abs(x)."""
    return Activation(abs, _sign, (mpf(0),))


def relu6() -> Activation:
    """x clipped to [0, 6]."""
    lo, hi = mpf(0), mpf(6)
    return Activation(lambda x: _clip(x, lo, hi), lambda x: _inside(x, lo, hi), (lo, hi))


def hard_tanh(a: str = "1") -> Activation:
    """x clipped to [-a, a]."""
    return shtanh(a, "1")


def shtanh(a: str = "1", k: str = "1") -> Activation:
    """k times x clipped to [-a, a]."""
    a, k = mpf(a), mpf(k)
    return Activation(lambda x: k * _clip(x, -a, a), lambda x: k * _inside(x, -a, a), (-a, a))


def ssin(a: str = "1") -> Activation:
    """Odd: u up to a, then a - 1 + cos(u - a)."""
    a = mpf(a)
    phi, dphi = _odd(
        lambda u: u if u <= a else a - 1 + mp.cos(u - a),
        lambda u: mpf(1) if u <= a else -mp.sin(u - a),
    )
    return Activation(phi, dphi, (-a, a), oscillates=True)


def sexp(a: str = "1") -> Activation:
    """Odd: u up to a, then a - 1 + exp(a - u)."""
    a = mpf(a)
    phi, dphi = _odd(
        lambda u: u if u <= a else a - 1 + mp.exp(a - u),
        lambda u: mpf(1) if u <= a else -mp.exp(a - u),
    )
    return Activation(phi, dphi, (-a, a))


def ssaw(a: str = "1") -> Activation:
    """Odd: u up to a, then 2 a - u up to 2 a, then 0."""
    a = mpf(a)
    phi, dphi = _odd(
        lambda u: u if u <= a else max(2 * a - u, mpf(0)),
        lambda u: mpf(1) if u <= a else -_inside(u, a, 2 * a),
    )
    return Activation(phi, dphi, (-2 * a, -a, a, 2 * a))


def tanh() -> Activation:
    """tanh(x)."""
    return Activation(mp.tanh, _sech2)


def erf() -> Activation:
    """erf(x)."""
    return Activation(mp.erf, lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x))


def sigmoid() -> Activation:
    """1 / (1 + exp(-x))."""
    return Activation(_logistic, lambda x: _logistic(x) * _logistic(-x))


def arctan() -> Activation:
    """arctan(x)."""
    return Activation(mp.atan, lambda x: 1 / (1 + x * x))


def softsign() -> Activation:
    """x / (1 + abs(x))."""
    return Activation(lambda x: x / (1 + abs(x)), lambda x: (1 + abs(x)) ** -2, (mpf(0),))


def sin() -> Activation:
    """sin(x)."""
    return Activation(mp.sin, mp.cos, oscillates=True)


def gaussian() -> Activation:
    """exp(-x^2)."""
    return Activation(lambda x: mp.exp(-x * x), lambda x: -2 * x * mp.exp(-x * x))


def softplus(beta: str = "1") -> Activation:
    """log(1 + exp(beta x)) / beta."""
    b = mpf(beta)
    return Activation(lambda x: _log1pexp(b * x) / b, lambda x: _logistic(b * x), scale=1 / b)


def elu(alpha: str = "1") -> Activation:
    """x for x > 0, alpha (exp(x) - 1) otherwise."""
    a = mpf(alpha)
    return Activation(
        lambda x: x if x > 0 else a * mp.expm1(x),
        lambda x: mpf(1) if x > 0 else a * mp.exp(x),
        (mpf(0),),
    )


SELU_LAMBDA = "1.0507009873554804934193349852946"
SELU_ALPHA = "1.6732632423543772848170429916717"


def selu() -> Activation:
    """SELU_LAMBDA times elu with alpha = SELU_ALPHA."""
    lam, base = mpf(SELU_LAMBDA), elu(SELU_ALPHA)
    return Activation(lambda x: lam * base.phi(x), lambda x: lam * base.dphi(x), (mpf(0),))


def celu(alpha: str = "1") -> Activation:
    """x for x > 0, alpha (exp(x / alpha) - 1) otherwise."""
    a = mpf(alpha)
    return Activation(
        lambda x: x if x > 0 else a * mp.expm1(x / a),
        lambda x: mpf(1) if x > 0 else mp.exp(x / a),
        (mpf(0),),
        scale=a,
    )


def swish(beta: str = "1") -> Activation:
    """x / (1 + exp(-beta x))."""
    b = mpf(beta)

    def dphi(x: Number) -> Number:
        s = _logistic(b * x)
        return s + b * x * s * _logistic(-b * x)

    return Activation(lambda x: x * _logistic(b * x), dphi, scale=1 / b)


def hard_swish() -> Activation:
    """x times x + 3 clipped to [0, 6], over 6."""

    def dphi(x: Number) -> Number:
        if x <= -3:
            return mpf(0)
        return mpf(1) if x >= 3 else (2 * x + 3) / 6

    return Activation(lambda x: x * _clip(x + 3, mpf(0), mpf(6)) / 6, dphi, (mpf(-3), mpf(3)))


def gelu() -> Activation:
    """x times the normal distribution function."""
    return Activation(lambda x: x * _cdf(x), lambda x: _cdf(x) + x * _density(x))


def gelu_tanh() -> Activation:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    k, w = mp.sqrt(2 / mp.pi), mpf("0.044715")

    def phi(x: Number) -> Number:
        return x / 2 * (1 + mp.tanh(k * (x + w * x**3)))

    def dphi(x: Number) -> Number:
        t = k * (x + w * x**3)
        return (1 + mp.tanh(t)) / 2 + x / 2 * _sech2(t) * k * (1 + 3 * w * x * x)

    return Activation(phi, dphi)


def mish() -> Activation:
    """x tanh(log(1 + exp(x)))."""

    def dphi(x: Number) -> Number:
        s = _log1pexp(x)
        return mp.tanh(s) + x * _sech2(s) * _logistic(x)

    return Activation(lambda x: x * mp.tanh(_log1pexp(x)), dphi)


def tanhexp() -> Activation:
    """x tanh(exp(x))."""

    def saturated(x: Number) -> bool:
        return x > 8

    def phi(x: Number) -> Number:
        return x if saturated(x) else x * mp.tanh(mp.exp(x))

    def dphi(x: Number) -> Number:
        if saturated(x):
            return mpf(1)
        e = mp.exp(x)
        return mp.tanh(e) + x * e * _sech2(e)

    return Activation(phi, dphi)


def srelu(delta: str = "1") -> Activation:
    """0 below -delta, x above delta, (x + delta)^3 (3 delta - x) / (16 delta^3) between."""
    d = mpf(delta)

    def phi(x: Number) -> Number:
        if abs(x) >= d:
            return max(x, mpf(0))
        return (x + d) ** 3 * (3 * d - x) / (16 * d**3)

    def dphi(x: Number) -> Number:
        if abs(x) >= d:
            return _step(x)
        return (3 * (x + d) ** 2 * (3 * d - x) - (x + d) ** 3) / (16 * d**3)

    return Activation(phi, dphi, (-d, d))


PHI: dict[str, Callable[..., Activation]] = {
    "linear": linear,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "abs": absolute,
    "relu6": relu6,
    "hard_tanh": hard_tanh,
    "shtanh": shtanh,
    "ssin": ssin,
    "sexp": sexp,
    "ssaw": ssaw,
    "tanh": tanh,
    "erf": erf,
    "sigmoid": sigmoid,
    "arctan": arctan,
    "softsign": softsign,
    "sin": sin,
    "gaussian": gaussian,
    "softplus": softplus,
    "elu": elu,
    "selu": selu,
    "celu": celu,
    "swish": swish,
    "hard_swish": hard_swish,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "mish": mish,
    "tanhexp": tanhexp,
    "srelu": srelu,
}
"""Name of each activation -> function of its parameters (decimal strings)."""


def build(name: str, **params: str) -> Activation:
    """Build the named activation; parameters are decimal strings or mpf."""
    return PHI[name](**params)


@cache
def _legendre(n: int, prec: int) -> tuple[tuple[Number, Number], ...]:
    rule = []
    with mp.workprec(prec + 20):
        for guess in np.polynomial.legendre.leggauss(n)[0]:
            x = mpf(float(guess))
            for _ in range(8):
                p, dp = _legendre_value(n, x)
                step = p / dp
                x -= step
                if abs(step) < mp.eps * 16:
                    break
            rule.append((x, 2 / ((1 - x * x) * _legendre_value(n, x)[1] ** 2)))
    return tuple(rule)


def _legendre_value(n: int, x: Number) -> tuple[Number, Number]:
    previous, current = mpf(1), x
    for k in range(2, n + 1):
        previous, current = current, ((2 * k - 1) * x * current - (k - 1) * previous) / k
    return current, n * (x * current - previous) / (x * x - 1)


def legendre_rule(n: int) -> tuple[tuple[Number, Number], ...]:
    """Nodes and weights of the n-point Gauss-Legendre rule on [-1, 1]."""
    return _legendre(n, mp.prec)


def integrate(
    f: Callable[[Number], Sequence[Number]], points: Iterable[Number], nodes: int
) -> list[Number]:
    """Integrate a vector-valued function by a Gauss-Legendre rule on each panel.

    Parameters
    ----------
    f : callable
        Returns a sequence of values at one abscissa.
    points : iterable of mpf
        Panel end points in any order.
    nodes : int
        Gauss-Legendre nodes per panel.
    """
    rule = legendre_rule(nodes)
    total: list[Number] | None = None
    for lo, hi in pairwise(sorted(set(points))):
        half, middle = (hi - lo) / 2, (hi + lo) / 2
        for x, w in rule:
            values = f(middle + half * x)
            if total is None:
                total = [mpf(0)] * len(values)
            for i, value in enumerate(values):
                total[i] += w * half * value
    if total is None:
        raise ValueError("no panel to integrate over")
    return total


Z_MAX = 16
"""Standard deviations kept on each side: the density beyond is below 1e-56."""


def panels(
    act: Activation, sigma: Number, fine: int = 2, uniform: int = 8, reach: int = Z_MAX
) -> set[Number]:
    """Panel end points in z for functions of x = sigma z.

    Around zero and around each break the panels have length ``scale / fine`` up to a distance
    of ``uniform * scale`` and double after it; whole z are always end points.  An oscillating
    function has panels no longer than 1 everywhere.

    Parameters
    ----------
    act : Activation
    sigma : mpf
        Standard deviation of x.
    fine, uniform : int
        See above.
    reach : int
        Largest abs(z).
    """
    edge = reach * sigma
    offsets = [act.scale * k / fine for k in range(1, fine * uniform + 1)]
    distance = act.scale * uniform
    while distance < 2 * edge:
        distance *= 2
        offsets.append(distance)
    if act.oscillates:
        offsets += [mpf(k) for k in range(1, int(edge) + 1)]
    points = {mpf(z) for z in range(-reach, reach + 1)}
    for centre in {mpf(0), *act.breaks}:
        for x in (centre, *(centre + d for d in offsets), *(centre - d for d in offsets)):
            if abs(x) < edge:
                points.add(x / sigma)
    return points


class Moments(NamedTuple):
    """E[phi^2], E[phi'^2], E[phi'^4] and dE[phi^2]/dq for x ~ N(0, q)."""

    E2: Number
    D2: Number
    D4: Number
    V1: Number


def moment(act: Activation, q: str | Number, nodes: int = 32, fine: int = 2) -> Moments:
    """One-dimensional moments by quadrature.

    All activations here are continuous, so dE[phi^2]/dq = E[z phi(x) phi'(x)] / sqrt(q).
    """
    sigma = mp.sqrt(mpf(q))

    def f(z: Number) -> tuple[Number, ...]:
        x, w = sigma * z, _density(z)
        v, d = act.phi(x), act.dphi(x)
        dd = d * d
        return w * v * v, w * dd, w * dd * dd, w * z * v * d / sigma

    return Moments(*integrate(f, panels(act, sigma, fine), nodes))


def moment_sin(q: str | Number) -> Moments:
    """Closed-form moments of sin."""
    q = mpf(q)
    e2 = mp.exp(-2 * q)
    return Moments(
        -mp.expm1(-2 * q) / 2, (1 + e2) / 2, mpf(3) / 8 + e2 / 2 + mp.exp(-8 * q) / 8, e2
    )


def moment_gaussian(q: str | Number) -> Moments:
    """Closed-form moments of exp(-x^2)."""
    q = mpf(q)
    return Moments(
        (1 + 4 * q) ** mpf("-0.5"),
        4 * q * (1 + 4 * q) ** mpf("-1.5"),
        48 * q**2 * (1 + 8 * q) ** mpf("-2.5"),
        -2 * (1 + 4 * q) ** mpf("-1.5"),
    )


CLOSED_MOMENTS: dict[str, Callable[..., Moments]] = {
    "sin": moment_sin,
    "gaussian": moment_gaussian,
}
"""Moments that need no quadrature."""


class Pair(NamedTuple):
    """Two-point values of u1, u2 with variances q1, q2 and correlation 1 - eps.

    Attributes
    ----------
    PP, DD : mpf
        E[phi(u1) phi(u2)] and E[phi'(u1) phi'(u2)].
    EPS : mpf or None
        E[(phi(u1) - phi(u2))^2] / (2 q) if q1 = q2 = q, else None.
    """

    PP: Number
    DD: Number
    EPS: Number | None


class Piece(NamedTuple):
    """The real part of a sum of polynomials times exponentials on an interval.

    Attributes
    ----------
    lo, hi : mpf
        Ends of the interval, possibly infinite.
    terms : tuple
        Pairs (coefficients from the constant up, rate); the term is poly(x) exp(rate x).
    """

    lo: Number
    hi: Number
    terms: tuple[tuple[tuple[Number, ...], Number], ...]

    def derivative(self) -> Piece:
        """Differentiate term by term."""
        out = []
        for coefficients, rate in self.terms:
            lower = [*[k * a for k, a in enumerate(coefficients)][1:], mpf(0)]
            pairs = zip(coefficients, lower, strict=True)
            out.append((tuple(b + rate * a for a, b in pairs), rate))
        return Piece(self.lo, self.hi, tuple(out))

    def means(self, slope: Piece, m: Number, s: Number) -> tuple[Number, Number]:
        """Exact expectations over N(m, s^2) of the piece and its derivative on the interval."""
        value, change = mpf(0), mpf(0)
        for (upper, rate), (lower, _) in zip(self.terms, slope.terms, strict=True):
            if any(upper):
                moments = _partial_moments(len(upper), m + rate * s * s, s, self.lo, self.hi)
                shift = mp.exp(rate * (m + rate * s * s / 2)) if rate else 1
                value += mp.re(shift * mp.fdot(upper, moments))
                change += mp.re(shift * mp.fdot(lower, moments))
        return value, change


def _partial_moments(count: int, m: Number, s: Number, lo: Number, hi: Number) -> list[Number]:
    """Integrals of x^k times the N(m, s^2) density over (lo, hi), k < count; m may be complex."""
    a, b = (lo - m) / s, (hi - m) / s
    infinite = (mp.isinf(lo), mp.isinf(hi))
    if not infinite[0] and mp.re(a) > 0:
        first = mp.erfc(a / mp.sqrt(2)) - (0 if infinite[1] else mp.erfc(b / mp.sqrt(2)))
    else:
        first = 2 if infinite[1] else mp.erfc(-b / mp.sqrt(2))
        first -= 0 if infinite[0] else mp.erfc(-a / mp.sqrt(2))
    moments = [first / 2]
    for k in range(1, count):
        edge = 0 if infinite[1] else hi ** (k - 1) * _density(b) / s
        edge -= 0 if infinite[0] else lo ** (k - 1) * _density(a) / s
        before = (k - 1) * s * s * moments[k - 2] if k > 1 else 0
        moments.append(m * moments[k - 1] + before - s * s * edge)
    return moments


def _polynomials(breaks: Sequence[Number], *polynomials: Sequence[object]) -> list[Piece]:
    ends = [-mp.inf, *breaks, mp.inf]
    return [
        Piece(lo, hi, ((tuple(mpf(a) for a in p), mpf(0)),))
        for (lo, hi), p in zip(pairwise(ends), polynomials, strict=True)
    ]


def _elu_pieces(alpha: str = "1", width: str = "1", gain: str = "1") -> list[Piece]:
    a, g, zero = mpf(alpha), mpf(gain), mpf(0)
    return [
        Piece(-mp.inf, zero, (((-a * g,), zero), ((a * g,), 1 / mpf(width)))),
        Piece(zero, mp.inf, (((zero, g), zero),)),
    ]


def _shtanh_pieces(a: str = "1", k: str = "1") -> list[Piece]:
    a, k = mpf(a), mpf(k)
    return _polynomials((-a, a), (-k * a,), (0, k), (k * a,))


def _ssaw_pieces(a: str = "1") -> list[Piece]:
    a = mpf(a)
    return _polynomials((-2 * a, -a, a, 2 * a), (0,), (-2 * a, -1), (0, 1), (2 * a, -1), (0,))


def _srelu_pieces(delta: str = "1") -> list[Piece]:
    d = mpf(delta)
    quartic = [x / (16 * d**3) for x in (3 * d**4, 8 * d**3, 6 * d**2, mpf(0), mpf(-1))]
    return _polynomials((-d, d), (0,), quartic, (0, 1))


def _decaying_tail_pieces(a: str, rate: Number) -> list[Piece]:
    """Odd function equal to x up to a and to a - 1 + Re exp(rate (x - a)) beyond."""
    a, zero = mpf(a), mpf(0)
    tail = mp.exp(-rate * a)
    return [
        Piece(-mp.inf, -a, (((1 - a,), zero), ((-tail,), -rate))),
        Piece(-a, a, (((zero, mpf(1)), zero),)),
        Piece(a, mp.inf, (((a - 1,), zero), ((tail,), rate))),
    ]


PIECES: dict[str, Callable[..., list[Piece]]] = {
    "linear": lambda: _polynomials((), (0, 1)),
    "relu": lambda: _polynomials((0,), (0,), (0, 1)),
    "leaky_relu": lambda negative_slope="0.01": _polynomials((0,), (0, negative_slope), (0, 1)),
    "abs": lambda: _polynomials((0,), (0, -1), (0, 1)),
    "relu6": lambda: _polynomials((0, 6), (0,), (0, 1), (6,)),
    "hard_tanh": _shtanh_pieces,
    "shtanh": _shtanh_pieces,
    "ssaw": _ssaw_pieces,
    "srelu": _srelu_pieces,
    "hard_swish": lambda: _polynomials((-3, 3), (0,), (0, mpf(1) / 2, mpf(1) / 6), (0, 1)),
    "elu": _elu_pieces,
    "selu": lambda: _elu_pieces(SELU_ALPHA, "1", SELU_LAMBDA),
    "celu": lambda alpha="1": _elu_pieces(alpha, alpha),
    "sexp": lambda a="1": _decaying_tail_pieces(a, mpf(-1)),
    "ssin": lambda a="1": _decaying_tail_pieces(a, mp.mpc(0, 1)),
}
"""Piecewise form of the activations that are polynomials times exponentials."""


def _gelu_means(m: Number, s: Number) -> tuple[Number, Number]:
    """E[phi(x)] and E[phi'(x)] of gelu over N(m, s^2)."""
    v = 1 + s * s
    t = m / mp.sqrt(v)
    weight = _density(t) / mp.sqrt(v)
    return m * _cdf(t) + s * s * weight, _cdf(t) + weight * m / v


def conditional_means(
    name: str, **params: str
) -> Callable[[Number, Number], tuple[Number, Number]]:
    """Return the exact map (m, s) -> (E[phi], E[phi']) over N(m, s^2)."""
    if name == "gelu":
        return _gelu_means
    pieces = PIECES[name](**params)
    slopes = [piece.derivative() for piece in pieces]

    def means(m: Number, s: Number) -> tuple[Number, Number]:
        parts = [p.means(d, m, s) for p, d in zip(pieces, slopes, strict=True)]
        return sum(v for v, _ in parts), sum(d for _, d in parts)

    return means


def _overlap(q1: Number, q2: Number, pp: Number, dd: Number, second: Number) -> Pair:
    return Pair(pp, dd, (second - pp) / q1 if q1 == q2 else None)


def _thinned(
    points: set[Number], fixed: set[Number], centres: set[Number], width: Number, cap: Number
) -> list[Number]:
    """Drop points, except fixed ones, much closer to the one before than panels need to be."""
    kept: list[Number] = []
    last = max(points)
    for z in sorted(points):
        distance = min(abs(z - centre) for centre in centres)
        gap = min(max(distance, width), cap) / 4
        if not kept or z == last or z in fixed or z - kept[-1] > gap:
            kept.append(z)
    return kept


def pair_conditional(
    name: str,
    params: dict[str, str],
    q1: str | Number,
    q2: str | Number,
    eps: str | Number,
    nodes: int = 24,
) -> Pair:
    """Pair values from the exact mean of phi(u2) given u1 and a quadrature over u1.

    EPS is the difference of E[phi^2] and PP, so the working precision has to exceed the wanted
    one by the digits of 1/eps.  Needs 0 < eps < 2.
    """
    act = build(name, **params)
    means = conditional_means(name, **params)
    q1, q2, eps = mpf(q1), mpf(q2), mpf(eps)
    s1, s2 = mp.sqrt(q1), mp.sqrt(q2)
    slope, noise = (1 - eps) * s2, s2 * mp.sqrt(eps * (2 - eps))
    points = panels(act, s1, 1, 4)
    kinks = {b / s1 for b in act.breaks}
    centres = kinks or {mpf(0)}
    width = min(act.scale / s1, mpf(1))
    cap = min(width, mpf(1)) if act.oscillates else mpf(1)
    if slope:
        points |= panels(act, abs(slope), 1, 4)
        width = min(width, noise / abs(slope))
        centres = centres | {b / slope for b in act.breaks}
        for b in act.breaks:
            distance = width / 2
            while distance < 2 * Z_MAX:
                for z in (b / slope - distance, b / slope + distance):
                    if abs(z) < Z_MAX:
                        points.add(z)
                distance *= 2
    points = _thinned(points, kinks, centres, width, cap)

    def f(z: Number) -> tuple[Number, Number, Number]:
        w, x = _density(z), s1 * z
        v = w * act.phi(x)
        p, d = means(slope * z, noise)
        return v * p, w * act.dphi(x) * d, v * act.phi(x)

    return _overlap(q1, q2, *integrate(f, points, nodes))


def pair_line(
    act: Activation, q1: str | Number, q2: str | Number, sign: int, nodes: int = 32
) -> Pair:
    """Pair values at correlation sign = 1 or -1, by quadrature on a line."""
    q1, q2 = mpf(q1), mpf(q2)
    s1, s2 = mp.sqrt(q1), mp.sqrt(q2)

    def f(z: Number) -> tuple[Number, Number, Number]:
        x, y, w = s1 * z, sign * s2 * z, _density(z)
        a, b = act.phi(x), act.phi(y)
        return w * a * b, w * act.dphi(x) * act.dphi(y), w * (a - b) ** 2 / (2 * q1)

    points = panels(act, s1) | panels(act, s2)
    values = integrate(f, points | {-z for z in points}, nodes)
    return Pair(values[0], values[1], values[2] if q1 == q2 else None)


def pair_independent(act: Activation, q1: str | Number, q2: str | Number, nodes: int = 32) -> Pair:
    """Pair values at correlation 0: products of one-dimensional means."""

    def means(q: Number) -> list[Number]:
        s = mp.sqrt(q)

        def f(z: Number) -> tuple[Number, Number, Number]:
            w, v = _density(z), act.phi(s * z)
            return w * v, w * act.dphi(s * z), w * v * v

        return integrate(f, panels(act, s), nodes)

    q1, q2 = mpf(q1), mpf(q2)
    p1, d1, second = means(q1)
    p2, d2, _ = means(q2)
    return _overlap(q1, q2, p1 * p2, d1 * d2, second)


def pair_linear(q1: Number, q2: Number, eps: Number) -> Pair:
    """Closed form for the identity."""
    return Pair((1 - eps) * mp.sqrt(q1 * q2), mpf(1), eps if q1 == q2 else None)


def pair_relu(q1: Number, q2: Number, eps: Number) -> Pair:
    """Closed form for relu (arc-cosine kernels)."""
    theta = 2 * mp.asin(mp.sqrt(eps / 2))
    c, d = 1 - eps, (mp.pi - theta) / (2 * mp.pi)
    pp = mp.sqrt(q1 * q2) * (mp.sqrt(eps * (2 - eps)) / (2 * mp.pi) + c * d)
    return _overlap(q1, q2, pp, d, q1 / 2)


def pair_erf(q1: Number, q2: Number, eps: Number) -> Pair:
    """Closed form for erf (arc-sine kernel)."""
    k12 = 2 * (1 - eps) * mp.sqrt(q1 * q2)
    v1, v2 = 1 + 2 * q1, 1 + 2 * q2
    pp = 2 / mp.pi * mp.asin(k12 / mp.sqrt(v1 * v2))
    dd = 4 / mp.pi / mp.sqrt(v1 * v2 - k12**2)
    return _overlap(q1, q2, pp, dd, 2 / mp.pi * mp.asin(2 * q1 / v1))


def pair_sin(q1: Number, q2: Number, eps: Number) -> Pair:
    """Closed form for sin."""
    k12, decay = (1 - eps) * mp.sqrt(q1 * q2), mp.exp(-(q1 + q2) / 2)
    return _overlap(q1, q2, decay * mp.sinh(k12), decay * mp.cosh(k12), moment_sin(q1).E2)


def pair_gaussian(q1: Number, q2: Number, eps: Number) -> Pair:
    """Closed form for exp(-x^2)."""
    k12 = (1 - eps) * mp.sqrt(q1 * q2)
    det = (1 + 2 * q1) * (1 + 2 * q2) - 4 * k12**2
    root = mp.sqrt(det)
    return _overlap(q1, q2, 1 / root, 4 * k12 / (det * root), moment_gaussian(q1).E2)


CLOSED_PAIRS: dict[str, Callable[[Number, Number, Number], Pair]] = {
    "linear": pair_linear,
    "relu": pair_relu,
    "erf": pair_erf,
    "sin": pair_sin,
    "gaussian": pair_gaussian,
}
"""Pair values in closed form."""


def pair_closed(name: str, q1: str | Number, q2: str | Number, eps: str | Number) -> Pair:
    """Pair values of an activation listed in ``CLOSED_PAIRS``."""
    return CLOSED_PAIRS[name](mpf(q1), mpf(q2), mpf(eps))


Long = np.longdouble
LongArray = np.ndarray
LongFunctions = tuple[Callable[[LongArray], LongArray], Callable[[LongArray], LongArray]]


def to_long(x: Number) -> Long:
    """Round an mpf to an 80-bit float."""
    return Long(mp.nstr(mpf(x), 25))


def from_long(x: Long) -> Number:
    """Convert an 80-bit float without error."""
    high = float(x)
    return mpf(high) + mpf(float(x - Long(high)))


def _long_logistic(x: LongArray) -> LongArray:
    e = np.exp(-np.abs(x))
    return np.where(x > 0, Long(1), e) / (1 + e)


def _long_sech2(x: LongArray) -> LongArray:
    e = np.exp(-2 * np.abs(x))
    return 4 * e / (1 + e) ** 2


def _long_log1pexp(x: LongArray) -> LongArray:
    return np.maximum(x, Long(0)) + np.log1p(np.exp(-np.abs(x)))


def _long_gelu_tanh() -> LongFunctions:
    k, w = np.sqrt(2 / Long("3.14159265358979323846264338")), Long("0.044715")

    def phi(x: LongArray) -> LongArray:
        return x * _long_logistic(2 * k * (x + w * x**3))

    def dphi(x: LongArray) -> LongArray:
        t = k * (x + w * x**3)
        return _long_logistic(2 * t) + x / 2 * _long_sech2(t) * k * (1 + 3 * w * x * x)

    return phi, dphi


def _long_tanhexp_slope(x: LongArray) -> LongArray:
    e = np.exp(np.minimum(x, Long(9)))
    return np.tanh(e) + x * e * _long_sech2(e)


def _long_mish_slope(x: LongArray) -> LongArray:
    s = _long_log1pexp(x)
    return np.tanh(s) + x * _long_sech2(s) * _long_logistic(x)


SMOOTH: dict[str, LongFunctions] = {
    "tanh": (np.tanh, _long_sech2),
    "sigmoid": (_long_logistic, lambda x: _long_logistic(x) * _long_logistic(-x)),
    "arctan": (np.arctan, lambda x: 1 / (1 + x * x)),
    "softsign": (lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2),
    "softplus": (_long_log1pexp, _long_logistic),
    "swish": (
        lambda x: x * _long_logistic(x),
        lambda x: _long_logistic(x) * (1 + x * _long_logistic(-x)),
    ),
    "mish": (lambda x: x * np.tanh(_long_log1pexp(x)), _long_mish_slope),
    "gelu_tanh": _long_gelu_tanh(),
    "tanhexp": (lambda x: x * np.tanh(np.exp(np.minimum(x, Long(9)))), _long_tanhexp_slope),
}
"""Activations with default parameters, and their derivatives, on arrays of 80-bit floats."""


def _long_pieces(pieces: Sequence[Piece]) -> Callable[[LongArray], LongArray]:
    def evaluate(piece: Piece, x: LongArray) -> LongArray:
        total = np.zeros_like(x)
        for coefficients, rate in piece.terms:
            poly = np.zeros_like(x)
            for a in reversed([(to_long(mp.re(a)), to_long(mp.im(a))) for a in coefficients]):
                poly = poly * x + (a[0] + 1j * a[1] if a[1] else a[0])
            re, im = to_long(mp.re(rate)), to_long(mp.im(rate))
            factor = np.exp(re * x) if not im else np.exp(re * x) * np.exp(1j * im * x)
            total = total + np.real(poly * factor)
        return total

    def f(x: LongArray) -> LongArray:
        out = np.zeros_like(x)
        for piece in pieces:
            inside = (x > float(piece.lo)) if mp.isinf(piece.lo) else x > to_long(piece.lo)
            inside &= (x < float(piece.hi)) if mp.isinf(piece.hi) else x <= to_long(piece.hi)
            out[inside] = evaluate(piece, x[inside])
        return out

    return f


def long_functions(name: str, **params: str) -> LongFunctions:
    """Return phi and its derivative on arrays of 80-bit floats."""
    if name in SMOOTH:
        return SMOOTH[name]
    pieces = PIECES[name](**params)
    return _long_pieces(pieces), _long_pieces([p.derivative() for p in pieces])


def pair_tensor(
    name: str,
    params: dict[str, str],
    q1: str | Number,
    q2: str | Number,
    eps: str | Number,
    nodes: int = 20,
    fine: int = 1,
) -> Pair:
    """Pair values by a two-dimensional panel rule in 80-bit floats.

    With cos(theta) the correlation, u1 and u2 are sigma1, sigma2 times cos(theta/2) z1 plus and
    minus sin(theta/2) z2.  The coordinate with the larger coefficient is integrated first, with
    panels aligned to the breaks of both factors; the outer panels are aligned to the points
    where those breaks cross.  EPS is averaged from squared differences.
    """
    reach = 10
    act = build(name, **params)
    phi, dphi = long_functions(name, **params)
    q1, q2, eps = mpf(q1), mpf(q2), mpf(eps)
    a, b = mp.sqrt(1 - eps / 2), mp.sqrt(eps / 2)
    sign = 1
    if a < b:
        a, b, sign = b, a, -1
    s1, s2 = mp.sqrt(q1), sign * mp.sqrt(q2)
    centres = act.breaks or (mpf(0),)
    flat = name in PIECES and all(not rate for p in PIECES[name](**params) for _, rate in p.terms)
    largest = 4 * reach * max(s1, abs(s2))
    offsets = [mpf(0)]
    if not flat:
        step = act.scale / (2 * fine)
        while step < largest:
            offsets += [step, -step]
            step = step * 2 if step >= act.scale else step + act.scale / (2 * fine)
        if act.oscillates:
            offsets += [mpf(k) for k in range(-int(largest / 2), int(largest / 2), 2)]
    marks = sorted({c + d for c in centres for d in offsets})
    outer = {mpf(k) / fine for k in range(-reach * fine, reach * fine + 1)}
    for c1 in centres:
        for c2 in centres:
            crossing = (c1 / s1 - c2 / s2) / (2 * b)
            for d in offsets:
                for s in (s1, s2):
                    w = crossing + d / (2 * b * s)
                    if abs(w) < reach:
                        outer.add(w)
    rule = [(to_long(x), to_long(w)) for x, w in legendre_rule(nodes)]
    x_rule, w_rule = (np.array(column) for column in zip(*rule, strict=True))
    ends = np.array([to_long(w) for w in sorted(outer)])
    half = np.diff(ends)[:, None] / 2
    w_nodes = ((ends[1:] + ends[:-1])[:, None] / 2 + half * x_rule).ravel()
    w_weights = (half * w_rule).ravel()
    la, lb, l1, l2 = (to_long(v) for v in (a, b, s1, s2))
    first = np.array([to_long(m / s1) for m in marks])
    second = np.array([to_long(m / s2) for m in marks])
    whole = np.arange(-reach * fine, reach * fine + 1).astype(Long) / fine
    density_scale = to_long(1 / (2 * mp.pi))
    totals = np.zeros(3, dtype=Long)
    chunk = max(1, 2_000_000 // (nodes * (2 * len(marks) + len(whole))))
    for start in range(0, len(w_nodes), chunk):
        w = w_nodes[start : start + chunk, None]
        columns = ((first - lb * w) / la, (second + lb * w) / la, whole + 0 * w)
        t = np.sort(np.clip(np.concatenate(columns, axis=1), -reach, reach), axis=1)
        keep = np.diff(t, axis=1) > 0
        rows = np.broadcast_to(np.arange(len(w))[:, None], keep.shape)[keep]
        lo, hi = t[:, :-1][keep][:, None], t[:, 1:][keep][:, None]
        x = (hi + lo) / 2 + (hi - lo) / 2 * x_rule
        w = w[rows]
        weight = (hi - lo) / 2 * w_rule * w_weights[start : start + chunk][rows][:, None]
        weight = weight * np.exp(-(x * x + w * w) / 2)
        u1, u2 = l1 * (la * x + lb * w), l2 * (la * x - lb * w)
        p1, p2 = phi(u1), phi(u2)
        totals[0] += np.sum(weight * p1 * p2)
        totals[1] += np.sum(weight * dphi(u1) * dphi(u2))
        totals[2] += np.sum(weight * (p1 - p2) ** 2)
    pp, dd, gap = (from_long(v * density_scale) for v in totals)
    return Pair(pp, dd, gap / (2 * q1) if q1 == q2 else None)
