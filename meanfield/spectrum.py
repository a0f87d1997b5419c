"""How are the singular values of a deep network's Jacobian distributed?

The Jacobian J = W_L D_L ... W_1 D_1 of a wide network, D_l the diagonal matrix of slopes, is a
product of free matrices [1, 2]: see `meanfield.free_product` for the equations and their solution.
The squared singular values λ have a continuous part, and atoms. A squared slope X of 0 has its
probability, the largest of all layers, as an atom at λ = 0. With orthogonal weights, layers that
have X = x_l with probability a_l give an atom of mass Σ a_l - (L - 1), where that is positive, at
Π σw² x_l.

Moments come from the power series of the S-transforms (`meanfield.series`); the density must
reproduce the first two, and its mass must be right, for a status of OK.

References
----------
[1] J. Pennington, S. Schoenholz, S. Ganguli, Resurrecting the sigmoid in deep learning
    through dynamical isometry, NeurIPS 2017, arXiv:1711.04735.
[2] J. Pennington, S. Schoenholz, S. Ganguli, The emergence of spectral universality in deep
    networks, AISTATS 2018, arXiv:1802.09979.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import POSITIVE, elementwise
from meanfield._struct import concrete, require_number, static, struct
from meanfield.activations.piecewise import Linear
from meanfield.activations.piecewise_linear import PiecewiseLinear
from meanfield.errors import MeanFieldError, Status, require
from meanfield.free_product import (
    BISECTIONS,
    Factors,
    Solution,
    Stack,
    edge_of_stack,
    gather,
    solve,
    support_of,
    tabulate,
)
from meanfield.layers import Dense, Layer, Repeat, Serial
from meanfield.series import moments_of_product
from meanfield.slope_law import SlopeLaw, slope_law, turning_points
from meanfield.spectral_grid import ORDER, atoms_of, on_grid, outline_of
from meanfield.typing import Array, ScalarLike

LAYERS = (lambda depth: np.isfinite(depth) & (depth >= 1), "a finite number >= 1")
# Logarithms of λ that differ by less are equal.
SAME = 1e-13
# Mass and moments of the density must come out right to this.
TOLERANCE = 1e-6
# Room for zeros of φ' and φ''; if traced, there is room for this many.
ROOM = (0, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
TRACED_ROOM = 8
# A stack may have so many unlike layers; a variance drifts if it changes by more than this.
LONGEST_STACK = 64
DRIFT = 1e-9


@struct
class Atoms:
    """Places (and their logarithms) and masses; padded with masses of 0."""

    place: Array
    log_place: Array
    mass: Array


@struct
class JacobianSpectrum:
    """The distribution of the squared singular values λ = s² of a Jacobian.

    Fields have the shape S of the arguments of `jacobian_spectrum`; methods take any array x and
    return an array of shape S + x.shape, NaN where the solution is not resolved.
    """

    log_mean: Array
    """log m1, the logarithm of E λ."""
    log_moments: Array
    """Logarithms of E λ^k, k = 1 ... 8, from the exact series; shape S + (8,)."""
    density_moments: Array
    """E λ^k/(E λ)^k as the density on the grid has it, beside the exact ones; shape S + (8,)."""
    mass: Array
    """The integral of the density, plus the atoms, plus `below`."""
    below: Array
    """The mass between 0 and the lowest point of the grid: squared slopes below e⁻⁴⁰ of their mean
    count as 0."""
    log_support: Array
    """Logarithms of the ends of the bands of the continuous part, NaN-padded; shape S + (B, 2).

    Where they reach λ = 0 the lower end is the lowest point of the grid. In a stack of unlike
    layers gaps are not looked for: it is one band, which may hold gaps and reaches as far as atoms.
    """
    log_lambda_max: Array
    log_lambda_min: Array
    atoms: Atoms
    grid: Array
    """log λ at the points on which the density was integrated, NaN-padded."""
    grid_density: Array
    """λρ(λ) there."""
    grid_omega: tuple[Array, Array]
    """log|Ω| and arg Ω of every layer there, from which other points are found."""
    factors: tuple[Factors, ...]
    start: tuple[Array, Array]
    status: Array
    single: bool = static()

    @property
    def lambda_max(self) -> Array:
        """The largest squared singular value, an atom included."""
        return jnp.exp(self.log_lambda_max)

    @property
    def s_max(self) -> Array:
        """The largest singular value."""
        return jnp.exp(self.log_lambda_max / 2)

    @property
    def moments(self) -> Array:
        """E λ^k, k = 1 ... 8, from the exact series; shape S + (8,)."""
        return jnp.exp(self.log_moments)

    def density(self, x: ScalarLike) -> Array:
        """Return the density of the continuous part at λ = x; 0 for x <= 0."""
        x = jnp.asarray(x, dtype=float)
        safe = jnp.where(x > 0, x, 1.0)
        density = jnp.where(x > 0, self.log_density(jnp.log(safe)) / safe, 0.0)
        return jnp.where(jnp.isnan(x), jnp.nan, density)

    def singular_density(self, s: ScalarLike) -> Array:
        """Return the density of the continuous part of singular values at s; 0 for s <= 0."""
        s = jnp.asarray(s, dtype=float)
        safe = jnp.where(s > 0, s, 1.0)
        density = jnp.where(s > 0, 2 * self.log_density(2 * jnp.log(safe)) / safe, 0.0)
        return jnp.where(jnp.isnan(s), jnp.nan, density)

    def log_density(self, log_x: ScalarLike) -> Array:
        """Return the density of log λ at log_x, which is λρ(λ): never overflows."""
        return _read(self, log_x)[0]

    def cdf(self, x: ScalarLike) -> Array:
        """Return P(λ <= x), atoms included."""
        x = jnp.asarray(x, dtype=float)
        value = self.log_cdf(jnp.log(jnp.where(x > 0, x, 1.0)))
        zero = (self.atoms.mass * (self.atoms.place == 0)).sum(axis=-1)
        zero = zero.reshape(zero.shape + (1,) * x.ndim)
        below = jnp.where(x > 0, value, jnp.where(x == 0, zero, 0.0))
        return jnp.where(jnp.isnan(x), jnp.nan, below)

    def log_cdf(self, log_x: ScalarLike) -> Array:
        """Return P(log λ <= log_x), atoms included."""
        return 1.0 - _read(self, log_x)[1]

    def quantile(self, p: ScalarLike) -> Array:
        """Return the least x with P(λ <= x) >= p, 0 <= p <= 1; 0 if it is below the grid."""
        return jnp.exp(self.log_quantile(p))

    def log_quantile(self, p: ScalarLike) -> Array:
        """Return the logarithm of `quantile`: -inf where that is 0."""
        p = jnp.asarray(p, dtype=float)
        if concrete(p):
            require((p >= 0) & (p <= 1), "p", p, "a probability in [0, 1]")
        return _map_batch(_quantiles, self, p)


def jacobian_spectrum(layer: Layer, q: ScalarLike, depth: ScalarLike = 1.0) -> JacobianSpectrum:
    """Return the spectrum of the Jacobian of `depth` >= 1 repetitions of a layer at variance q > 0.

    Parameters
    ----------
    layer : a `Dense`, or a `Serial` or `Repeat` of them. In a stack the variance runs on from layer
        to layer; repetitions of a layer at a variance that it keeps are taken as a power.
    q : the variance at the input, which `depth` repetitions of the whole are all taken to see.
    depth : 1 to 10⁴ and beyond; any real number, since powers of free products are.

    Returns
    -------
    A `JacobianSpectrum`; all arguments broadcast. The status is OK if the density has the right
    mass and the right first and second moments to 1e-6; else NOT_CONVERGED. It is NONFINITE where
    φ jumps, NO_SOLUTION where J = 0, and OUT_OF_DOMAIN for a `Repeat` whose variance drifts
    under a trace. Where φ' comes arbitrarily close to its bound only for |u| > 8√q, the support
    is taken to end there: what is beyond has probability 1e-15. Not differentiable.
    """
    depth, stack, room = _prepared(layer, q, depth)
    single = len(stack.parts) == 1 and stack.parts[0].layer.ensemble == "orthogonal"
    if room is not None and not _only_scales(stack.parts[0].layer):
        single = single and bool(np.any(np.asarray(depth) == 1))
    return _spectrum(stack, depth, room=f"{room or TRACED_ROOM}", single="yes" if single else "no")


def largest_singular_value(layer: Layer, q: ScalarLike, depth: ScalarLike = 1.0) -> Array:
    """Return the largest singular value of what `jacobian_spectrum` describes, and nothing else.

    NaN where that has no spectrum for a reason that is seen without it: where φ jumps, J = 0, a
    variance drifts, or the law of slopes is not resolved. Arguments broadcast.
    """
    depth, stack, room = _prepared(layer, q, depth)
    return _largest(stack, depth, room=f"{room or TRACED_ROOM}")


def _prepared(
    layer: Layer, q: ScalarLike, depth: ScalarLike
) -> tuple[ScalarLike, "Parts", int | None]:
    """Return the depth, checked, the stack of layers, and the room that laws of slopes need.

    That is None where something is traced.
    """
    _require_dense(layer)
    q, depth = (np.asarray(x, float) if isinstance(x, list | tuple) else x for x in (q, depth))
    known = concrete(*jax.tree.leaves((layer, q, depth)))
    if known:
        for name, value, (legal, words) in (("q", q, POSITIVE), ("depth", depth, LAYERS)):
            require_number(name, value)
            require(legal(np.asarray(value, dtype=float)), name, value, words)
        layer = _unroll(layer, q)
    stack = _parts(layer, q)
    count = len(stack.parts)
    if count > LONGEST_STACK:
        raise MeanFieldError(
            f"a stack of {count} layers is not legal; at most {LONGEST_STACK} are, or a "
            "Repeat at a variance that it keeps"
        )
    if not known:
        return depth, stack, None
    most = int(jnp.max(_count_turns(stack)))
    return depth, stack, next((size for size in ROOM if size >= most), ROOM[-1])


def _require_dense(layer: Layer) -> None:
    if isinstance(layer, Serial):
        for part in layer.layers:
            _require_dense(part)
    elif isinstance(layer, Repeat):
        _require_dense(layer.layer)
    elif not isinstance(layer, Dense):
        raise MeanFieldError(
            f"layer = {layer!r} is not legal; it must be a Dense, or a Serial or Repeat of them "
            "(other layers have no spectrum here)"
        )


def _dense_layers(layer: Layer) -> list[tuple[Dense, int]]:
    """Return the dense layers of a stack, the first one first, and how often each stands there."""
    if isinstance(layer, Dense):
        return [(layer, 1)]
    if isinstance(layer, Repeat):
        return [(part, times * layer.times) for part, times in _dense_layers(layer.layer)]
    assert isinstance(layer, Serial)
    return [entry for part in layer.layers for entry in _dense_layers(part)]


def _unroll(layer: Layer, q: ScalarLike) -> Layer:
    """Return a stack in which each `Repeat` that changes its variance is written out."""
    if isinstance(layer, Serial):
        parts: list[Layer] = []
        for part in layer.layers:
            part = _unroll(part, q)
            parts = _appended(parts, part, q)
            q = part.variance(q)
        return Serial(tuple(parts))
    if isinstance(layer, Repeat):
        if _keeps(layer.layer, q):
            return Repeat(_unroll(layer.layer, q), layer.times)
        if layer.times > LONGEST_STACK:
            raise MeanFieldError(
                f"times = {layer.times} is not legal at q = {q!r}, which the layer does not keep; "
                f"it must be at most {LONGEST_STACK}, or q a fixed point (steady_state)"
            )
        return _unroll(Serial((layer.layer,) * layer.times), q)
    return layer


def _appended(parts: list[Layer], part: Layer, q: ScalarLike) -> list[Layer]:
    """Return a list of layers with one more: a power of the last one if that keeps q."""
    last = parts[-1] if parts else None
    times = last.times if isinstance(last, Repeat) else 1
    (leaves, tree), (others, other) = map(
        jax.tree.flatten, (part, last.layer if isinstance(last, Repeat) else last)
    )
    equal = tree == other and all(map(np.array_equal, leaves, others))
    if isinstance(part, Dense) and equal and _keeps(part, q):
        return [*parts[:-1], Repeat(part, times + 1)]
    return [*parts, part]


def _keeps(layer: Layer, q: ScalarLike) -> bool:
    return bool(np.all(np.abs(np.asarray(layer.variance(q)) / q - 1) <= DRIFT))


@struct
class Part:
    """A dense layer of a stack, the variance that it sees, and how often it stands there."""

    layer: Dense
    variance: Array
    times: Array


@struct
class Parts:
    """A stack; `drifts` where a `Repeat` that is taken as a power changes the variance."""

    parts: tuple[Part, ...]
    drifts: Array


def _parts(layer: Layer, q: ScalarLike) -> Parts:
    """Return a stack as its dense layers.

    A linear layer with orthogonal weights only scales λ, and is counted into another one.
    """
    drifts, parts, log_gain = _drifts(layer, q), [], jnp.zeros(())
    for dense, times in _dense_layers(layer):
        variance, q = jnp.asarray(q, dtype=float), dense.variance(q)
        if times == 0:
            q = variance
        elif _only_scales(dense):
            squared = jnp.square(dense.sigma_w) * jnp.square(dense.phi.slope(jnp.ones(())))
            log_gain += times * jnp.log(squared) / 2
        else:
            parts.append(Part(dense, variance, jnp.asarray(float(times))))
    if not parts:
        unit = Dense(Linear(), jnp.exp(log_gain), 0.0, "orthogonal")
        return Parts((Part(unit, jnp.asarray(q, dtype=float), jnp.ones(())),), drifts)
    first = parts[0]
    scaled = jnp.asarray(first.layer.sigma_w) * jnp.exp(log_gain / first.times)
    first = replace(first, layer=replace(first.layer, sigma_w=scaled))
    return Parts((first, *parts[1:]), drifts)


def _only_scales(layer: Dense) -> bool:
    """Return whether a layer's Jacobian is known to be a multiple of an orthogonal matrix."""
    linear = isinstance(layer.phi, PiecewiseLinear) and not layer.phi.kinks()
    whole = concrete(layer.keep) and bool(np.all(np.asarray(layer.keep) == 1))
    return linear and whole and layer.ensemble == "orthogonal"


@elementwise()
def _count_turns(stack: Parts) -> Array:
    counts = [turning_points(part.layer.phi, part.variance) for part in stack.parts]
    return functools.reduce(jnp.maximum, counts)


def _powers(layer: Dense, q: Array, law: SlopeLaw) -> Array:
    """Return E X^k, k = 1 ... 8."""
    orders = range(1, ORDER + 1)
    if law.discrete:
        return jnp.stack([(law.masses * law.values**k).sum() for k in orders])
    moments = [law.keep * layer.phi.slope_moment(q, 2 * k) / law.scale**k for k in orders]
    return jnp.stack(moments)


def _factors(parts: Parts, depth: Array, room: int) -> tuple[Factors, ...]:
    """Return the layers sorted by kind, each kind with arrays of one length."""
    kinds: dict[Any, list[Factors]] = {}
    for part in parts.parts:
        dense = part.layer
        law = slope_law(dense.phi, part.variance, dense.keep, room)
        log_chi = 2 * jnp.log(jnp.asarray(dense.sigma_w, dtype=float))
        log_chi = log_chi + jnp.log(law.scale) - 2 * jnp.log(law.keep)
        powers = _powers(dense, part.variance, law)
        factor = Factors(law, part.times * depth, log_chi, powers, dense.ensemble == "gaussian")
        factor = jax.tree.map(lambda x: jnp.asarray(x, dtype=jnp.result_type(x)), factor)
        kinds.setdefault(jax.tree.structure(factor), []).append(factor)
    return tuple(jax.tree.map(lambda *x: jnp.stack(x), *kind) for kind in kinds.values())


def _drifts(layer: Layer, q: ScalarLike) -> Array:
    """Return whether a `Repeat` that is taken as a power changes the variance."""
    if isinstance(layer, Serial):
        drifts = jnp.zeros((), bool)
        for part in layer.layers:
            drifts, q = drifts | _drifts(part, q), part.variance(q)
        return drifts
    if isinstance(layer, Repeat) and layer.times > 1:
        change = jnp.abs(layer.layer.variance(q) / q - 1)
        return (change > DRIFT) | _drifts(layer.layer, q)
    return jnp.zeros((), bool)


@elementwise("room", "single")
def _spectrum(parts: Parts, depth: ScalarLike, room: str, single: str) -> JacobianSpectrum:
    factors = _factors(parts, jnp.asarray(depth, dtype=float), int(room))
    stack = Stack.of(factors)
    start = tabulate(stack)
    log_chi = jnp.concatenate([kind.log_chi for kind in factors])
    log_mean = (stack.count * log_chi).sum()
    powers = jnp.concatenate([kind.powers for kind in factors])
    exact = moments_of_product(powers, stack.count, (stack.gaussian > 0).astype(float))
    places, masses, cut = atoms_of(stack)
    low, high, gaps = outline_of(stack, masses[0], places[1:])
    atoms = (places, masses)
    grid = on_grid(stack, start, (low, high, gaps), cut, atoms, exact, single == "yes")
    log_x = jnp.where(grid.cells.weights > 0, grid.cells.x, jnp.nan).ravel()
    order = jnp.argsort(log_x)
    layers = stack.count.shape[0]
    used = ~jnp.isnan(log_x)[order, None]
    omega = jnp.where(used, grid.cells.carried.reshape(-1, 2 * layers)[order], 0.0)

    orders = jnp.arange(1, ORDER + 1)[:, None]
    of_grid = jnp.where(jnp.isnan(log_x), 0.0, jnp.exp(orders * log_x) * grid.summands)
    of_atoms = jnp.where(masses > 0, jnp.exp(orders * places) * masses, 0.0)
    hidden = grid.hidden * jnp.exp(orders[:, 0] * (high - cut / 3))
    found = of_grid.sum(axis=1) + of_atoms.sum(axis=1) + hidden
    mass = grid.summands.sum() + masses.sum() + grid.below + grid.hidden
    moments_agree = (jnp.abs(found[:2] / exact[:2] - 1) <= TOLERANCE).all()
    right = moments_agree & (jnp.abs(mass - 1) <= TOLERANCE)
    resolved = gather(factors, lambda law: law.resolved).all()
    status = _verdict(parts, right & resolved)

    def known(x: Array) -> Array:
        return jnp.where(status == Status.OK, x, jnp.nan)

    top = jnp.maximum(high, jnp.where(masses > 0, places, -jnp.inf).max())
    bottom = jnp.where(masses[0] > 0, -jnp.inf, low)
    return JacobianSpectrum(
        log_mean=known(log_mean),
        log_moments=known(jnp.arange(1, ORDER + 1) * log_mean + jnp.log(exact)),
        density_moments=known(found),
        mass=known(mass),
        below=known(grid.below),
        log_support=known(support_of(grid.floor, high, gaps) + log_mean),
        log_lambda_max=known(top + log_mean),
        log_lambda_min=known(bottom + log_mean),
        atoms=Atoms(known(jnp.exp(places + log_mean)), known(places + log_mean), known(masses)),
        grid=known(log_x[order] + log_mean),
        grid_density=known(grid.cells.values.ravel()[order]),
        grid_omega=(omega[:, :layers], omega[:, layers:]),
        factors=factors,
        start=start,
        status=status,
        single=single == "yes",
    )


@elementwise("room")
def _largest(parts: Parts, depth: ScalarLike, room: str) -> Array:
    factors = _factors(parts, jnp.asarray(depth, dtype=float), int(room))
    stack = Stack.of(factors)
    log_chi = jnp.concatenate([kind.log_chi for kind in factors])
    ends = gather(factors, lambda law: jnp.stack(law.span))[:, 1]
    edge = jnp.where(stack.is_law, ends[0], edge_of_stack(stack, ends, 1.0))
    places, masses, _ = atoms_of(stack)
    top = jnp.maximum(edge, jnp.where(masses > 0, places, -jnp.inf).max())
    status = _verdict(parts, gather(factors, lambda law: law.resolved).all())
    return jnp.where(
        status == Status.OK, jnp.exp((top + (stack.count * log_chi).sum()) / 2), jnp.nan
    )


def _verdict(stack: Parts, right: Array) -> Array:
    squares = jnp.stack([part.layer.phi.slope_moment(part.variance, 2) for part in stack.parts])
    weights = jnp.stack([jnp.asarray(part.layer.sigma_w, dtype=float) for part in stack.parts])
    status = jnp.where(right, Status.OK, Status.NOT_CONVERGED)
    status = jnp.where(stack.drifts, Status.OUT_OF_DOMAIN, status)
    status = jnp.where((squares == 0).any() | (weights == 0).any(), Status.NO_SOLUTION, status)
    return jnp.where(jnp.isinf(squares).any(), Status.NONFINITE, status).astype(jnp.int8)


@functools.partial(jax.jit, static_argnums=0)
def _map_batch(read: Callable[..., Any], spectrum: JacobianSpectrum, x: Array) -> Any:
    """Return read(scalar spectrum, x) for every spectrum of a batch."""
    shape = spectrum.status.shape
    if shape == ():
        return read(spectrum, x)
    size = spectrum.status.size
    flat = jax.tree.map(lambda a: a.reshape((size, *a.shape[len(shape) :])), spectrum)
    out = jax.lax.map(lambda one: read(one, x), flat)
    return jax.tree.map(lambda a: a.reshape((*shape, *a.shape[1:])), out)


def _solve(spectrum: JacobianSpectrum, targets: Array) -> Solution:
    """Return the solutions at a vector of log λ (E λ = 1), guessed from those on the grid."""
    log_x = jnp.where(jnp.isnan(spectrum.grid), jnp.inf, spectrum.grid - spectrum.log_mean)
    top = jnp.nanmax(spectrum.log_support) - spectrum.log_mean
    beyond = targets >= top
    places = jnp.where(beyond, jnp.minimum(targets, log_x[0]), targets)
    near = jax.vmap(lambda omega: jnp.interp(places, log_x, omega), 1, 1)
    log_r, theta = spectrum.grid_omega
    guess = (near(log_r), near(theta))
    stack = Stack.of(spectrum.factors)
    found = solve(stack, spectrum.start, places, spectrum.single, guess)
    # Beyond the continuous part there are atoms alone.
    atoms = spectrum.atoms
    higher = atoms.log_place - spectrum.log_mean > targets[:, None] + SAME
    return replace(
        found,
        log_density=jnp.where(beyond, 0.0, found.log_density),
        above=jnp.where(beyond, jnp.where(higher, atoms.mass, 0.0).sum(axis=1), found.above),
        resolved=beyond | found.resolved,
    )


def _points(spectrum: JacobianSpectrum, log_x: Array) -> tuple[Array, Array]:
    targets = jnp.ravel(log_x) - jnp.where(spectrum.status == Status.OK, spectrum.log_mean, 0.0)
    found = _solve(spectrum, targets)
    ok = found.resolved & (spectrum.status == Status.OK)
    density, above = (jnp.where(ok, x, jnp.nan) for x in (found.log_density, found.above))
    return density.reshape(log_x.shape), above.reshape(log_x.shape)


def _read(spectrum: JacobianSpectrum, log_x: ScalarLike) -> tuple[Array, Array]:
    """Return λρ(λ) and P(> λ)."""
    return _map_batch(_points, spectrum, jnp.asarray(log_x, dtype=float))


def _quantiles(spectrum: JacobianSpectrum, p: Array) -> Array:
    mean = spectrum.log_mean
    low = jnp.full(p.size, spectrum.start[1][0])
    high = jnp.full(p.size, spectrum.log_lambda_max - mean)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        found = _solve(spectrum, middle)
        # A NaN stays: what is not resolved leads nowhere.
        middle = jnp.where(found.resolved, middle, jnp.nan)
        below = 1 - found.above < p.ravel()
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    _, root = jax.lax.fori_loop(0, BISECTIONS, halve, (low, high))
    nil = (spectrum.atoms.mass * (spectrum.atoms.place == 0)).sum() + spectrum.below
    root = jnp.where(p.ravel() <= nil, -jnp.inf, root + mean).reshape(p.shape)
    return jnp.where(spectrum.status == Status.OK, root, jnp.nan)
