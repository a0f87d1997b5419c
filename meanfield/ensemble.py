"""Finite random networks: do they do what the theory of infinite ones says?

A network of widths N_0, ..., N_L takes two inputs, vectors of pre-activations in random
directions with |h_i⁰|²/N_0 = q_i and correlation c exactly. Its layers are

    h_i^l = W^l (k_i φ(h_i^{l-1})/p) + b^l,        b^l ~ N(0, σb²),

with weights and biases that both inputs share and dropout masks k_i of their own: ones with
probability p, else 0. Weights are N(0, σw²/N_{l-1}) each, or W^l = σw Q with Q of the uniform
(Haar) distribution over matrices with orthonormal rows (N_l ≤ N_{l-1}), or over those with
orthonormal columns, times √(N_l/N_{l-1}) (N_l > N_{l-1}). Q comes from Q R = G, G a Gaussian
matrix: it is uniform if the signs of R's diagonal are moved into it, not as LAPACK leaves it [1].

With J^l = ∂h^l/∂h⁰ and D^l = diag(k φ'(h^l)/p), both of the first input, a random unit vector
δ^L is sent back, and the Jacobian forward:

    δ^{l-1} = D^{l-1} W^lᵀ δ^l,        J^l = W^l D^{l-1} J^{l-1},        J⁰ = 1.

For infinite widths, equal or not, |h|²/N and the correlation of the inputs follow the maps of
`meanfield.layers`; with χ_l and v_l the mean and relative variance that the `moments` of layer l
are where its input has the variance q^{l-1},

    |δ^{l-1}|² = χ_l |δ^l|²,    m1 = tr(JJᵀ)/N_l = Π χ_i,    m2 = tr((JJᵀ)²)/N_l = m1² (1 + Σ v_i),

the last for equal widths. Orthogonal weights that widen the network (WᵀW = σw² N_l/N_{l-1})
scale every signal alike, those that narrow it (WWᵀ = σw²) every gradient; for the other of the two
it holds in the mean, as the matrix keeps but a part of a random vector.

Finite networks fluctuate by terms of relative size √(L/N), and deviate in the mean by terms of
L/N [2]. The standard error of n networks is √(L/(nN)): beyond n ~ N/L networks it is below the
deviation, which then shows. A z-score tests the theory where the standard error is the larger one.

References
----------
[1] F. Mezzadri, How to generate random matrices from the classical compact groups, Notices of
    the AMS 54 (2007), arXiv:math-ph/0609050.
[2] B. Hanin, M. Nica, Products of many large random matrices and gradients in deep neural
    networks, Communications in Mathematical Physics 376 (2020), arXiv:1812.05994.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from meanfield import random_networks as random
from meanfield._elementwise import CORRELATION, POSITIVE
from meanfield.arguments import count, illegal, integer, legal_number, single, untraced
from meanfield.errors import MeanFieldError, Status, require, unknown_name
from meanfield.fixedpoint import steady_state
from meanfield.layers import Covariance, Dense, Layer, Repeat, Serial
from meanfield.memory import parse_memory
from meanfield.typing import Array

Report = Callable[[int, int], None]
Name = TypeVar("Name", str, int)

# A batch holds at most this part of the networks, so that progress is seen.
BATCHES = 10
# A standard error below this part of the mean is rounding.
ROUNDING = 1e-12
BYTES = 8
SEEDS = 2**63


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Mean over networks and its standard error, by layer."""

    mean: np.ndarray
    error: np.ndarray


@dataclasses.dataclass(frozen=True)
class Simulation:
    """What random networks did.

    `samples` holds, by name, arrays over networks and layers 0, ..., L: the variances q1 and q2 of
    the two inputs, their correlation c, the squared norm `gradient` of δ^l, and the moments m1
    and m2 of JJᵀ. `singular_values` holds, by layer, arrays over networks of J's min(N_0, N_l)
    singular values, descending. `layers`, `widths` and `inputs` are what was simulated.
    """

    layers: tuple[Dense, ...]
    widths: tuple[int, ...]
    inputs: Covariance
    samples: dict[str, np.ndarray]
    singular_values: dict[int, np.ndarray]

    @property
    def networks(self) -> int:
        """The number of networks."""
        return len(self.samples["c"])

    def estimate(self, quantity: str) -> Estimate:
        """Return mean and standard error of a quantity, by layer."""
        if quantity not in self.samples:
            raise unknown_name("quantity", quantity, self.samples)
        samples = self.samples[quantity]
        # Where numbers overflow there is no error to be had: it is NaN.
        with np.errstate(all="ignore"):
            error = samples.std(axis=0, ddof=1) / math.sqrt(len(samples))
            return Estimate(samples.mean(axis=0), error)


@dataclasses.dataclass(frozen=True)
class Row:
    """A quantity at a layer: theory, and mean, standard error and z-score of the networks.

    `given` says that the value is not the networks' but set: of the inputs, J⁰ and δ^L. There the
    z-score is NaN, and so it is where theory or networks have no finite number.
    """

    quantity: str
    layer: int
    theory: float
    mean: float
    error: float
    z: float
    given: bool


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Theory against simulation, quantity by quantity and layer by layer."""

    rows: tuple[Row, ...]

    @property
    def worst(self) -> Row:
        """The row of the largest |z|."""
        return max(self.rows, key=lambda row: -1.0 if math.isnan(row.z) else abs(row.z))


@untraced
def simulate(
    layer: Layer,
    widths: Sequence[int],
    q: float | tuple[float, float] | None = None,
    c: float = 0.5,
    *,
    networks: int = 20,
    seed: int = 0,
    memory: int | str = "1GiB",
    jacobians: bool = True,
    spectra: Sequence[int] | None = None,
    report: Report | None = None,
) -> Simulation:
    """Draw random networks and return what they do with two inputs and with gradients.

    Parameters
    ----------
    layer : a `Dense`, of which every layer is one, or a stack (`Serial`, `Repeat`) of as many as
        the widths ask for. Its numbers must be single ones.
    widths : N_0, ..., N_L: integers >= 1, at least two of them.
    q : variance of the two inputs, or a pair of variances, > 0; by default the steady state of
        `layer` that the variance 1 reaches.
    c : their correlation, in [-1, 1].
    networks : how many, at least 2.
    seed : an integer >= 0. Network i has the key fold_in(key(seed), i): results do not depend, but
        for rounding, on how many networks fit into memory.
    memory : what networks may take at once: bytes, or text such as "512MiB", "2GB", "1e9".
        Compiled programs and the results come on top.
    jacobians : whether Jacobians are followed too; they take most of the time.
    spectra : the layers of whose Jacobians singular values are kept, the last one by default.
    report : called with the number of networks done and of all, before and after each batch.

    Returns
    -------
    A `Simulation`. Numbers that overflow double precision are inf or NaN.

    Raises
    ------
    MeanFieldError : an argument is not legal, the layer has no steady state and q is not given,
        or one network does not fit into memory.
    """
    widths = _checked_widths(widths)
    layers = _dense_layers(layer, len(widths) - 1)
    networks, seed = count("networks", networks, 2), count("seed", seed, 0)
    fitting = count_fitting(widths, c, networks, seed, memory, jacobians)
    kept = _checked_spectra(spectra, len(layers), jacobians)
    inputs = _inputs(layer, q, c)
    largest = min(fitting, -(-networks // BATCHES))
    batches = -(-networks // largest)
    # Batches of one size share compiled kernels; what the last one has too many is dropped.
    size = -(-networks // batches)
    results = []
    if report:
        report(0, networks)
    for start in range(0, networks, size):
        numbers = np.arange(start, start + size)
        results.append(_batch(layers, widths, inputs, seed, numbers, jacobians, kept))
        if report:
            report(min(start + size, networks), networks)
    samples, singular_values = (_joined(parts, networks) for parts in zip(*results, strict=True))
    return Simulation(layers, widths, inputs, samples, singular_values)


def count_fitting(
    widths: Sequence[int], c: float, networks: int, seed: int, memory: int | str, jacobians: bool
) -> int:
    """Return how many networks fit into memory. Raises what `simulate` does for these arguments."""
    count("networks", networks, 2)
    require(count("seed", seed, 0) < SEEDS, "seed", seed, "an integer from 0 to 2⁶³ - 1")
    c = single("c", c, CORRELATION)
    if widths[0] == 1 and abs(c) < 1:
        raise MeanFieldError(f"c = {c} is not legal; inputs of width 1 have the correlation ±1")
    need, budget = _network_bytes(tuple(widths), jacobians), parse_memory(memory)
    if need > budget:
        raise MeanFieldError(
            f"memory = {memory!r} is not enough for one network: it takes {_shown(need)}"
        )
    return budget // need


def _joined(batches: Sequence[dict[Name, np.ndarray]], networks: int) -> dict[Name, np.ndarray]:
    return {k: np.concatenate([batch[k] for batch in batches])[:networks] for k in batches[0]}


def compare_with_theory(simulation: Simulation) -> Comparison:
    """Return the theory's values beside the means over networks, with z-scores.

    A z-score is (mean - theory)/(standard error). It tests the theory only where the standard
    error is above the networks' own deviation of relative order L/N: see `meanfield.ensemble`.
    Of n networks it follows Student's distribution with n - 1 degrees of freedom. There are rows
    for every quantity and layer, but for m2 only as far as widths are equal. Raises
    `MeanFieldError` for what is no simulation.
    """
    if not isinstance(simulation, Simulation):
        raise illegal("simulation", simulation, "what simulate returns")
    theory = _theory(simulation)
    last = len(simulation.layers)
    rows = []
    for quantity in simulation.samples:
        estimate = simulation.estimate(quantity)
        first = last if quantity == "gradient" else 0
        columns = (theory[quantity], estimate.mean, estimate.error)
        # The theory's column may be the shorter one.
        for number, values in enumerate(zip(*columns, strict=False)):
            expected, mean, error = map(float, values)
            given = number == first
            z = math.nan if given else _z_score(expected, mean, error)
            rows.append(Row(quantity, number, expected, mean, error, z, given))
    return Comparison(tuple(rows))


def _theory(simulation: Simulation) -> dict[str, np.ndarray]:
    """Return what infinite networks have for each quantity, by layer as far as it is known."""
    pairs, chis, spreads = [simulation.inputs], [], []
    for layer in simulation.layers:
        moments = layer.moments(pairs[-1].q1)
        chis.append(float(moments.mean))
        spreads.append(float(moments.relative_variance))
        pairs.append(layer.propagate(pairs[-1]))
    m1 = np.cumprod([1.0, *chis])
    m2 = m1**2 * (1 + np.cumsum([0.0, *spreads]))
    widths = simulation.widths
    equal = next((i for i, width in enumerate(widths) if width != widths[0]), len(widths))
    return {
        **{name: np.array([getattr(pair, name) for pair in pairs]) for name in ("q1", "q2", "c")},
        "gradient": np.cumprod([1.0, *chis[::-1]])[::-1],
        "m1": m1,
        # Where the first layer already ends it, nothing but J⁰ is left to compare.
        "m2": m2[: equal if equal > 1 else 0],
    }


def _z_score(theory: float, mean: float, error: float) -> float:
    if not (math.isfinite(theory) and math.isfinite(mean)):
        return math.nan
    floor = ROUNDING * max(abs(theory), abs(mean))
    return (mean - theory) / max(error, floor) if mean != theory else 0.0


def _shown(count: int) -> str:
    return f"{count / 2**20:.1f}MiB" if count >= 2**20 else f"{count} bytes"


def _is_count(value: Any, least: int) -> bool:
    whole = integer(value)
    return whole is not None and whole >= least


def _checked_widths(widths: Sequence[int]) -> tuple[int, ...]:
    try:
        widths = tuple(widths)
    except TypeError:
        widths = ()
    if len(widths) < 2 or not all(_is_count(width, 1) for width in widths):
        raise MeanFieldError(
            f"widths = {widths!r} is not legal; it must be two or more integers >= 1"
        )
    return tuple(map(int, widths))


def _checked_spectra(spectra: Sequence[int] | None, depth: int, jacobians: bool) -> tuple[int, ...]:
    if spectra is None:
        return (depth,) if jacobians else ()
    try:
        spectra = tuple(spectra)
    except TypeError as error:
        raise illegal("spectra", spectra, "a list of layers") from error
    if spectra and not jacobians:
        raise MeanFieldError("spectra are those of Jacobians; jacobians must be True")
    if not all(_is_count(layer, 0) and layer <= depth for layer in spectra):
        raise MeanFieldError(
            f"spectra = {spectra!r} is not legal; it must be numbers of layers from 0 to {depth}"
        )
    return tuple(sorted(set(map(int, spectra))))


def _dense_layers(layer: Layer, depth: int) -> tuple[Dense, ...]:
    layers = tuple(_flat(layer))
    if isinstance(layer, Dense):
        layers *= depth
    if len(layers) != depth:
        raise MeanFieldError(
            f"widths are those of {depth} layers, but the stack has {len(layers)}; "
            "there is one width more than layers"
        )
    for dense in layers:
        if any(np.ndim(leaf) for leaf in jax.tree.leaves(dense)):
            raise MeanFieldError("layer with arrays is not legal; its numbers must be single ones")
    return layers


def _flat(layer: Layer) -> Iterator[Dense]:
    if isinstance(layer, Dense):
        yield layer
    elif isinstance(layer, Serial):
        for part in layer.layers:
            yield from _flat(part)
    elif isinstance(layer, Repeat):
        for _ in range(layer.times):
            yield from _flat(layer.layer)
    else:
        raise MeanFieldError(f"layer {layer!r} is not legal; it must be made of Dense layers")


def _inputs(layer: Layer, q: float | tuple[float, float] | None, c: float) -> Covariance:
    c = single("c", c, CORRELATION)
    if q is None:
        state = steady_state(layer)
        if int(state.status) != Status.OK:
            reason = Status(int(state.status)).message
            raise MeanFieldError(f"q must be given, as there is no steady state: {reason}")
        q = float(state.q)
    one_or_two = (
        lambda q: np.shape(q) in ((), (2,)) and POSITIVE[0](q),
        "a finite number > 0, or two of them",
    )
    variances = np.asarray(legal_number("q", q, one_or_two))
    q1, q2 = np.broadcast_to(variances, 2)
    return Covariance(float(q1), float(q2), 1.0 - min(1.0, max(-1.0, c)))


def _network_bytes(widths: tuple[int, ...], jacobians: bool) -> int:
    """Return an upper bound of the memory that one network takes."""
    sizes = [before * after for before, after in itertools.pairwise(widths)]
    # All weights are kept for the gradients; those in the making take as much again, three times.
    numbers = sum(sizes) + 3 * max(sizes) + 8 * sum(widths)
    if jacobians:
        # A Jacobian and its decomposition; more than the next one and JJᵀ.
        numbers += 5 * max(widths) * widths[0]
    return BYTES * numbers


def _batch(
    layers: tuple[Dense, ...],
    widths: tuple[int, ...],
    inputs: Covariance,
    seed: int,
    numbers: np.ndarray,
    jacobians: bool,
    spectra: tuple[int, ...],
) -> tuple[dict[str, np.ndarray], dict[int, np.ndarray]]:
    """Return the samples and the singular values of the networks with these numbers."""
    keys = random.network_keys(seed, numbers)
    h = random.first(keys, inputs, widths[0])
    signals, moments, singular_values, passed = [random.overlaps(h)], [], {}, []
    jacobian = jnp.broadcast_to(jnp.eye(widths[0]), (len(numbers), widths[0], widths[0]))
    if jacobians:
        moments.append(random.moments(jacobian))
    for number, layer in enumerate(layers, 1):
        weights, slopes, h = random.forward(layer, keys, number, h, widths[number])
        passed.append((weights, slopes))
        signals.append(random.overlaps(h))
        if jacobians:
            jacobian = random.extend(jacobian, weights, slopes)
            moments.append(random.moments(jacobian))
        if number in spectra:
            singular_values[number] = np.asarray(random.singular_values(jacobian))
    if 0 in spectra:
        singular_values[0] = np.ones((len(numbers), widths[0]))
    delta = random.readout(keys, len(widths), widths[-1])
    gradients = [random.squares(delta)]
    for weights, slopes in reversed(passed):
        delta = random.backward(delta, weights, slopes)
        gradients.append(random.squares(delta))
    q1, q2, c = _by_layer(signals)
    samples = {"q1": q1, "q2": q2, "c": c, "gradient": np.stack(gradients[::-1], axis=1)}
    if jacobians:
        samples["m1"], samples["m2"] = _by_layer(moments)
    return samples, singular_values


def _by_layer(quantities: list[tuple[Array, ...]]) -> list[np.ndarray]:
    return [np.stack(values, axis=1) for values in zip(*quantities, strict=True)]
