"""How are the singular values of a deep network's Jacobian distributed?

The Jacobian J = W_L D_L ... W_1 D_1 of a wide network, D_l the diagonal matrix of slopes, is a
product of free matrices [1, 2]: see `meanfield.free_product` for the equations and their solution.
The squared singular values λ have a continuous part, and atoms. A squared slope X of 0 has its
probability, the largest of all layers, as an atom at λ = 0. With orthogonal weights, layers that
have X = x_l with probability a_l give an atom of mass Σ a_l - (L - 1), where that is positive, at
Π σw² x_l.

Moments come from the power series of the S-transforms (`meanfield.series`); the density must
reproduce the first two, and its mass must be right, for a status of OK.

Everything is computed on the host, network by network (`meanfield.spectral_law`), by a callback
where numbers are traced.

References
----------
[1] J. Pennington, S. Schoenholz, S. Ganguli, Resurrecting the sigmoid in deep learning
    through dynamical isometry, NeurIPS 2017, arXiv:1711.04735.
[2] J. Pennington, S. Schoenholz, S. Ganguli, The emergence of spectral universality in deep
    networks, AISTATS 2018, arXiv:1802.09979.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meanfield import devices
from meanfield._elementwise import POSITIVE, on_host_alone
from meanfield._struct import static, struct
from meanfield.adaptive import FIRST, NODES
from meanfield.arguments import legal_number, number
from meanfield.errors import MeanFieldError, Status
from meanfield.layers import Dense, Layer, Repeat, Serial
from meanfield.slope_law import ORDER
from meanfield.spectral_grid import MOST
from meanfield.spectral_law import SpectralLaw, log_largest, spectral_law
from meanfield.table import Tabulated
from meanfield.typing import Array, ScalarLike

LAYERS = (lambda depth: np.isfinite(depth) & (depth >= 1), "a finite number >= 1")


@struct
class Networks:
    """Networks (layer, q, depth) as their leaves, all of one shape S."""

    leaves: tuple[Array, ...]
    tree: Any = static()

    @classmethod
    def of(cls, layer: Layer, q: ScalarLike, depth: ScalarLike) -> "Networks":
        """Return the networks of arguments that broadcast; numbers among these are checked."""
        _require_dense(layer)
        devices.require_precision()
        q, depth = legal_number("q", q, POSITIVE), legal_number("depth", depth, LAYERS)
        leaves, tree = jax.tree.flatten((_without_tables(layer), q, depth))
        try:
            shape = np.broadcast_shapes(*map(np.shape, leaves))
        except ValueError as error:
            raise MeanFieldError(f"arguments of jacobian_spectrum: {error}") from error
        xp: Any = np if on_host_alone(leaves) else jnp
        whole = (xp.broadcast_to(xp.asarray(x, dtype=float), shape) for x in leaves)
        return cls(tuple(whole), tree)

    def each(self, function: Callable[..., Any], *others: Any) -> list[Any]:
        """Return function(tree, leaves) of every network of numbers, in one list."""
        rows = zip(
            *(np.asarray(leaf, dtype=float).ravel().tolist() for leaf in self.leaves), strict=True
        )
        return [function(self.tree, row, *others) for row in rows]

    def asked(self, question: Callable[..., Any], kinds: Any, *arrays: Any) -> Any:
        """Return question(networks, *arrays): arrays of the shapes of `kinds`, after S.

        It is asked about networks of numbers, and where something is traced by a callback.
        """
        if on_host_alone((self, arrays)):
            with np.errstate(all="ignore"):
                return jax.tree.map(jax.device_put, question(self, *arrays))
        size, count = np.ndim(self.leaves[0]), len(self.leaves)

        def called(*values: Any) -> Any:
            # `vmap` has put its axes before the others.
            values = tuple(np.asarray(x) for x in values)
            batch = values[0].shape[: values[0].ndim - size]
            rows = (x.reshape((math.prod(batch), *x.shape[len(batch) :])) for x in values)
            with np.errstate(all="ignore"):
                found = [
                    question(Networks(row[:count], self.tree), *row[count:])
                    for row in zip(*rows, strict=True)
                ]
            return jax.tree.map(lambda *x: np.stack(x).reshape((*batch, *x[0].shape)), *found)

        shape = np.shape(self.leaves[0])
        kinds = jax.tree.map(lambda x: jax.ShapeDtypeStruct(shape + x.shape, x.dtype), kinds)
        arguments = (*self.leaves, *arrays)
        return _undifferentiable(
            lambda *values: jax.pure_callback(called, kinds, *values, vmap_method="broadcast_all")
        )(*arguments)


def _undifferentiable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose derivatives are refused in one line."""

    def refuse(*_: Any) -> Any:
        raise MeanFieldError(
            "spectra of Jacobians cannot be differentiated; jacobian_moments can be, and two "
            "spectra have a difference"
        )

    guarded = jax.custom_jvp(function)
    guarded.defjvp(refuse)
    return guarded


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


def _without_tables(layer: Layer) -> Layer:
    """Return a layer with φ in place of its table, which knows no law of slopes."""

    def bare(x: Any) -> Any:
        return x.phi if isinstance(x, Tabulated) else x

    return jax.tree.map(bare, layer, is_leaf=lambda x: isinstance(x, Tabulated))


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
    status: Array
    networks: Networks
    """What the spectrum is that of, from which methods read it."""

    @property
    def lambda_max(self) -> Array:
        """The largest squared singular value, an atom included."""
        return _exp(self.log_lambda_max)

    @property
    def s_max(self) -> Array:
        """The largest singular value."""
        return _exp(self.log_lambda_max / 2)

    @property
    def moments(self) -> Array:
        """E λ^k, k = 1 ... 8, from the exact series; shape S + (8,)."""
        return _exp(self.log_moments)

    def density(self, x: ScalarLike) -> Array:
        """Return the density of the continuous part at λ = x; 0 for x <= 0."""
        return self._read(SpectralLaw.density, x)

    def singular_density(self, s: ScalarLike) -> Array:
        """Return the density of the continuous part of singular values at s; 0 for s <= 0."""
        return self._read(SpectralLaw.singular_density, s)

    def log_density(self, log_x: ScalarLike) -> Array:
        """Return the density of log λ at log_x, which is λρ(λ): never overflows."""
        return self._read(SpectralLaw.log_density, log_x)

    def cdf(self, x: ScalarLike) -> Array:
        """Return P(λ <= x), atoms included."""
        return self._read(SpectralLaw.cdf, x)

    def log_cdf(self, log_x: ScalarLike) -> Array:
        """Return P(log λ <= log_x), atoms included."""
        return self._read(SpectralLaw.log_cdf, log_x)

    def quantile(self, p: ScalarLike) -> Array:
        """Return the least x with P(λ <= x) >= p, 0 <= p <= 1; 0 if it is below the grid."""
        return self._read(SpectralLaw.quantile, _probability(p))

    def log_quantile(self, p: ScalarLike) -> Array:
        """Return the logarithm of `quantile`: -inf where that is 0."""
        return self._read(SpectralLaw.log_quantile, _probability(p))

    def _read(self, method: Callable[..., np.ndarray], x: ScalarLike) -> Array:
        """Return what a method of the laws returns at x."""
        x = number("x", x)

        def question(networks: Networks, x: Any) -> np.ndarray:
            points = np.asarray(x, dtype=float)
            nothing = np.full(points.size, np.nan)
            found = [
                nothing if law is None else method(law, points.ravel())
                for law, _ in networks.each(_law)
            ]
            return np.reshape(found, (*np.shape(networks.leaves[0]), *points.shape))

        return self.networks.asked(question, jax.ShapeDtypeStruct(np.shape(x), float), x)


def _probability(p: ScalarLike) -> ScalarLike:
    return legal_number("p", p, (lambda p: (p >= 0) & (p <= 1), "a probability in [0, 1]"))


def _exp(x: Array) -> Array:
    return jax.device_put(np.exp(np.asarray(x))) if on_host_alone(x) else jnp.exp(x)


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
    φ jumps, NO_SOLUTION where J = 0, and OUT_OF_DOMAIN for traced numbers that are not legal. Where
    φ' comes arbitrarily close to its bound only for |u| > 8√q, the support is taken to end there:
    what is beyond has probability 1e-15. Not differentiable.
    """
    networks = Networks.of(layer, q, depth)
    if on_host_alone(networks):

        def question(some: Networks) -> JacobianSpectrum:
            laws = some.each(spectral_law)
            return _packed(some, laws, _Room.of(laws))

        return networks.asked(question, None)
    # A traced one is packed as one number would be.
    one = jax.tree.map(lambda _: np.zeros(()), networks)
    kinds = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
        _packed(one, [(None, Status.OK)], TRACED),
    )
    found = networks.asked(lambda some: _packed(some, some.each(_law), TRACED), kinds)
    return replace(found, networks=networks)


def largest_singular_value(layer: Layer, q: ScalarLike, depth: ScalarLike = 1.0) -> Array:
    """Return the largest singular value of what `jacobian_spectrum` describes, and nothing else.

    NaN where that has no spectrum for a reason that is seen without it: where φ jumps, J = 0, or
    the law of slopes is not resolved. Arguments broadcast.
    """
    networks = Networks.of(layer, q, depth)
    strict = on_host_alone(networks)

    def question(some: Networks) -> np.ndarray:
        found = some.each(log_largest if strict else _log_largest)
        return np.exp(np.reshape(found, np.shape(some.leaves[0])))

    return networks.asked(question, jax.ShapeDtypeStruct((), float))


def _legal(tree: Any, leaves: tuple[float, ...]) -> bool:
    layer, q, depth = jax.tree.unflatten(tree, leaves)
    return bool(layer.legal() and POSITIVE[0](q) and LAYERS[0](depth))


def _law(tree: Any, leaves: tuple[float, ...]) -> tuple[SpectralLaw | None, Status]:
    """Return the law of a network and its status, OUT_OF_DOMAIN where it is not legal."""
    try:
        if _legal(tree, leaves):
            return spectral_law(tree, leaves)
    except MeanFieldError:
        # A variance drifts.
        pass
    return None, Status.OUT_OF_DOMAIN


def _log_largest(tree: Any, leaves: tuple[float, ...]) -> float:
    """Return the logarithm of the largest singular value, NaN where a network is not legal."""
    try:
        return log_largest(tree, leaves) if _legal(tree, leaves) else np.nan
    except MeanFieldError:
        return np.nan


class _Room(NamedTuple):
    """How many atoms, bands and points of the grid arrays have room for."""

    atoms: int
    bands: int
    points: int

    @classmethod
    def of(cls, laws: list[tuple[SpectralLaw | None, Status]]) -> "_Room":
        """Return the room that laws need."""
        known = [law for law, _ in laws if law is not None]
        sizes = [(law.atoms.place.size, len(law.support), law.grid_density.size) for law in known]
        return cls(*np.max([(1, 1, 1), *sizes], axis=0).tolist())


# The laws of traced numbers have this.
TRACED = _Room(64, 16, NODES * (16 * FIRST + MOST))


def _packed(
    networks: Networks, laws: list[tuple[SpectralLaw | None, Status]], room: _Room
) -> JacobianSpectrum:
    """Return laws as one record of arrays; what needs more room is not known."""
    shape = np.shape(networks.leaves[0])
    fits = [
        law is None or all(map(int.__le__, _Room.of([(law, status)]), room)) for law, status in laws
    ]
    status = [
        status if fit else Status.NOT_CONVERGED for (_, status), fit in zip(laws, fits, strict=True)
    ]
    known = [law if fit else None for (law, _), fit in zip(laws, fits, strict=True)]

    def array(
        read: Callable[[SpectralLaw], Any], size: tuple[int, ...] = (), rest: float = np.nan
    ) -> Any:
        found = np.full((len(known), *size), np.nan)
        for i, law in enumerate(known):
            if law is not None:
                value = np.asarray(read(law))
                found[i] = rest
                found[(i, *map(slice, value.shape))] = value
        return found.reshape((*shape, *size))

    def logs(law: SpectralLaw) -> np.ndarray:
        return law.atoms.place + law.log_mean

    orders = np.arange(1, ORDER + 1)
    return JacobianSpectrum(
        log_mean=array(lambda law: law.log_mean),
        log_moments=array(lambda law: orders * law.log_mean + np.log(law.exact), (ORDER,)),
        density_moments=array(lambda law: law.moments, (ORDER,)),
        mass=array(lambda law: law.mass),
        below=array(lambda law: law.below),
        log_support=array(lambda law: law.support + law.log_mean, (room.bands, 2)),
        log_lambda_max=array(lambda law: law.high + law.log_mean),
        log_lambda_min=array(lambda law: law.low + law.log_mean),
        atoms=Atoms(
            array(lambda law: np.exp(logs(law)), (room.atoms,)),
            array(logs, (room.atoms,)),
            array(lambda law: law.atoms.mass, (room.atoms,), 0.0),
        ),
        grid=array(lambda law: law.known.log_x + law.log_mean, (room.points,)),
        grid_density=array(lambda law: law.grid_density, (room.points,)),
        status=np.array(status, dtype=np.int8).reshape(shape),  # pyright: ignore[reportArgumentType]
        networks=networks,
    )
