"""Random networks: what they are, that they repeat, and what is refused.

Whether they do what the theory says is asked in test_ensemble_theory.py.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield import ensemble, random_networks
from meanfield.ensemble import compare_with_theory, parse_memory, simulate

TANH, RELU, LINEAR = (mf.activation(name) for name in ("tanh", "relu", "linear"))
DENSE = mf.Dense(TANH, 1.5, 0.3, keep=0.8)
WIDTHS = (7, 9, 4, 6)
STANDARD_ERRORS = 4.0
QUANTITIES = ["q1", "q2", "c", "gradient", "m1", "m2"]
# The bytes that a network of WIDTHS takes.
ONE = ensemble._network_bytes(WIDTHS, True)


def score(samples, expected):
    """Return how many standard errors the mean of samples is off."""
    samples = np.asarray(samples)
    return (samples.mean() - expected) / (samples.std(ddof=1) / math.sqrt(samples.size))


def agree(one, other, rtol=1e-10):
    assert one.samples.keys() == other.samples.keys()
    for name in one.samples:
        np.testing.assert_allclose(one.samples[name], other.samples[name], rtol=rtol)
    assert one.singular_values.keys() == other.singular_values.keys()
    for number, values in one.singular_values.items():
        np.testing.assert_allclose(values, other.singular_values[number], rtol=1e-6, atol=1e-9)


def test_what_is_returned():
    found = simulate(DENSE, WIDTHS, (2.0, 0.5), -0.25, networks=5, spectra=[0, 2, 3])
    assert list(found.samples) == QUANTITIES
    assert all(samples.shape == (5, 4) for samples in found.samples.values())
    assert all(samples.dtype == np.float64 for samples in found.samples.values())
    assert (found.networks, found.widths, found.layers) == (5, WIDTHS, (DENSE,) * 3)
    assert {k: v.shape for k, v in found.singular_values.items()} == {
        0: (5, 7),
        2: (5, 4),
        3: (5, 6),
    }
    for name, value in (("q1", 2.0), ("q2", 0.5), ("c", -0.25), ("m1", 1.0), ("m2", 1.0)):
        np.testing.assert_allclose(found.samples[name][:, 0], value, rtol=1e-13)
    np.testing.assert_allclose(found.samples["gradient"][:, -1], 1.0, rtol=1e-13)
    for number, values in found.singular_values.items():
        assert (np.diff(values) <= 0).all()
        for name, power in (("m1", 2), ("m2", 4)):
            moments = (values**power).sum(axis=1) / WIDTHS[number]
            np.testing.assert_allclose(moments, found.samples[name][:, number], rtol=1e-10)


def test_estimates_are_over_networks():
    found = simulate(DENSE, WIDTHS, 1.0, networks=6)
    estimate, samples = found.estimate("c"), found.samples["c"]
    np.testing.assert_allclose(estimate.mean, samples.mean(axis=0))
    np.testing.assert_allclose(estimate.error, samples.std(axis=0, ddof=1) / math.sqrt(6))
    with pytest.raises(mf.MeanFieldError, match="did you mean gradient"):
        found.estimate("gradients")


def test_the_variance_starts_at_the_steady_state():
    found = simulate(DENSE, WIDTHS, networks=2, jacobians=False)
    assert found.inputs.q1 == found.inputs.q2 == float(mf.steady_state(DENSE).q)
    assert list(found.samples) == QUANTITIES[:4]
    assert not found.singular_values


def test_a_seed_repeats_and_another_differs():
    one, same, other = (simulate(DENSE, WIDTHS, 1.0, networks=3, seed=s) for s in (5, 5, 6))
    for name in QUANTITIES:
        assert (one.samples[name] == same.samples[name]).all()
        assert (one.samples[name][:, 1:-1] != other.samples[name][:, 1:-1]).all()
    assert len(np.unique(one.samples["c"][:, 1:])) == 9


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
def test_results_do_not_depend_on_the_memory(weights):
    layer = mf.Dense(TANH, 1.5, 0.3, weights, 0.8)
    options = {"networks": 23, "spectra": [1, 3]}
    whole, said = simulate(layer, WIDTHS, 1.0, **options), []
    tight = simulate(
        layer, WIDTHS, 1.0, **options, memory=2 * ONE, report=lambda *at: said.append(at)
    )
    agree(whole, tight)
    assert said == [(min(done, 23), 23) for done in range(0, 25, 2)]
    few = simulate(layer, WIDTHS, 1.0, networks=4, spectra=[1, 3], memory=ONE)
    for name in QUANTITIES:
        np.testing.assert_allclose(few.samples[name], whole.samples[name][:4], rtol=1e-10)


def test_stacks_are_flattened():
    plain = simulate(DENSE, WIDTHS, 1.0, networks=3)
    for stack in (
        mf.Repeat(DENSE, 3),
        mf.Serial((DENSE, DENSE, DENSE)),
        DENSE >> mf.Repeat(DENSE, 2),
        mf.Serial((mf.Serial((DENSE,)), mf.Repeat(DENSE, 2))),
    ):
        agree(plain, simulate(stack, WIDTHS, 1.0, networks=3), rtol=1e-14)


@pytest.mark.parametrize("keep", [1.0, 0.7])
@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
def test_the_jacobian_and_the_gradient_are_those_of_the_network(weights, keep):
    layer, widths = mf.Dense(TANH, 1.5, 0.3, weights, keep), (4, 6, 3)
    found = simulate(layer, widths, 1.0, networks=2, seed=3)
    keys = random_networks.network_keys(3, np.arange(2))
    start = random_networks.first(keys, found.inputs, widths[0])

    def network(x):
        h = start.at[:, 0].set(x)
        for number, width in enumerate(widths[1:], 1):
            _, _, h = random_networks.forward(layer, keys, number, h, width)
        return h[:, 0]

    outputs, pull = jax.vjp(network, start[:, 0])
    jacobian = jax.jacobian(network)(start[:, 0])
    np.testing.assert_allclose(jnp.mean(outputs**2, axis=1), found.samples["q1"][:, -1])
    delta = random_networks.readout(keys, 3, widths[-1])
    np.testing.assert_allclose(
        jnp.sum(pull(delta)[0] ** 2, axis=1), found.samples["gradient"][:, 0]
    )
    for i in range(2):
        singular = jnp.linalg.svd(jacobian[i, :, i], compute_uv=False)
        np.testing.assert_allclose(singular, found.singular_values[2][i], rtol=1e-10, atol=1e-12)


def frames(rows, columns, count):
    normal = jax.random.normal(jax.random.key(0), (count, rows, columns))
    return normal, np.asarray(random_networks._frame(normal))


@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (7, 3)])
def test_frames_are_orthonormal(rows, columns):
    _, found = frames(rows, columns, 20)
    gram = np.swapaxes(found, 1, 2) @ found
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(columns), gram.shape), atol=1e-14)


def test_frames_are_uniform_and_without_the_signs_are_not():
    normal, found = frames(4, 4, 2000)
    raw = jnp.linalg.qr(normal)[0]
    np.testing.assert_allclose(np.abs(raw), np.abs(found), rtol=1e-12)
    # Of a uniform matrix every entry has the mean 0, and the trace the mean square 1.
    assert abs(score(found[:, 0, 0], 0.0)) < STANDARD_ERRORS
    assert abs(score(raw[:, 0, 0], 0.0)) > STANDARD_ERRORS
    traces = np.trace(found, axis1=1, axis2=2)
    assert abs(score(traces, 0.0)) < STANDARD_ERRORS
    assert abs(score(traces**2, 1.0)) < STANDARD_ERRORS
    assert abs(score(np.trace(raw, axis1=1, axis2=2), 0.0)) > STANDARD_ERRORS


@pytest.mark.parametrize(("before", "after"), [(12, 20), (20, 12), (15, 15)])
def test_orthogonal_weights_keep_one_length_always_and_the_other_in_the_mean(before, after):
    layer = mf.Dense(LINEAR, 1.3, ensemble="orthogonal")
    found = simulate(layer, (before, after), 1.0, networks=400, jacobians=False)
    signals, gradients = found.samples["q1"][:, 1], found.samples["gradient"][:, 0]
    for samples, always in ((signals, before <= after), (gradients, before >= after)):
        if always:
            np.testing.assert_allclose(samples, 1.3**2, rtol=1e-12)
        else:
            assert samples.std() > 0.1
            assert abs(score(samples, 1.3**2)) < STANDARD_ERRORS


def test_moments_of_relu_networks_of_any_width():
    """E q_l² = (1 + 5/N)^l (E q_l)² exactly, from inputs on a sphere, and so for gradients."""
    width, depth = 20, 3
    layer = mf.Dense(RELU, math.sqrt(2.0))
    found = simulate(layer, (width,) * (depth + 1), 1.0, networks=4000, jacobians=False)
    for number in range(1, depth + 1):
        expected = (1 + 5 / width) ** number
        assert abs(score(found.samples["q1"][:, number], 1.0)) < STANDARD_ERRORS
        assert abs(score(found.samples["q1"][:, number] ** 2, expected)) < STANDARD_ERRORS
        back = found.samples["gradient"][:, depth - number]
        assert abs(score(back, 1.0)) < STANDARD_ERRORS
        assert abs(score(back**2, expected)) < STANDARD_ERRORS


def test_the_comparison_has_a_row_for_each_quantity_and_layer():
    found = compare_with_theory(simulate(DENSE, (8, 8, 8, 5), 1.0, networks=4))
    rows = {(row.quantity, row.layer): row for row in found.rows}
    # The widths 8, 8, 8, 5 are equal up to layer 2.
    assert len(rows) == len(found.rows) == 4 * 5 + 3
    given = {(name, 3 if name == "gradient" else 0) for name in QUANTITIES}
    assert {key for key, row in rows.items() if math.isnan(row.z)} == given
    path = mf.rollout(DENSE, 1.0, 1.0, 0.5, 3)
    moments = [DENSE.moments(q) for q in path.q1]
    chi = [float(m.mean) for m in moments]
    for number in range(4):
        assert rows["q1", number].theory == pytest.approx(float(path.q1[number]), rel=1e-13)
        assert rows["c", number].theory == pytest.approx(float(path.c[number]), rel=1e-12)
        assert rows["m1", number].theory == pytest.approx(math.prod(chi[:number]), rel=1e-13)
        backward = math.prod(chi[number:3])
        assert rows["gradient", number].theory == pytest.approx(backward, rel=1e-13)
    stack = mf.Repeat(DENSE, 2).moments(1.0)
    expected = float(stack.mean**2 * (1 + stack.relative_variance))
    assert rows["m2", 2].theory == pytest.approx(expected, rel=1e-13)
    row = rows["q1", 2]
    assert row.z == pytest.approx((row.mean - row.theory) / row.error)
    assert abs(found.worst.z) == max(abs(r.z) for r in found.rows if not math.isnan(r.z))


def test_nothing_is_said_of_m2_where_no_widths_are_equal():
    found = compare_with_theory(simulate(DENSE, WIDTHS, 1.0, networks=2))
    assert "m2" not in {row.quantity for row in found.rows}


def test_rounding_is_no_deviation():
    layer = mf.Dense(LINEAR, 0.9, ensemble="orthogonal")
    found = compare_with_theory(simulate(layer, (16,) * 5, 2.0, 1.0, networks=3))
    assert abs(found.worst.z) < 1e-2


def test_what_overflows_or_is_infinite_has_no_score():
    layer = mf.Dense(LINEAR, 1e160)
    found = compare_with_theory(simulate(layer, (5, 5, 5), 1.0, networks=3))
    first = {row.quantity: row for row in found.rows if row.layer == 1}
    assert math.isinf(first["q1"].mean)
    assert math.isnan(first["q1"].z)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("512MiB", 2**29),
        ("2GiB", 2**31),
        ("1e9", 10**9),
        (" 1.5 kB ", 1500),
        (4096, 4096),
        ("7B", 7),
    ],
)
def test_memory_is_read(text, count):
    assert parse_memory(text) == count


@pytest.mark.parametrize(
    "text", ["", "much", "1XB", "-1", "1e", "1.2.3", "nan", None, True, "1e999"]
)
def test_memory_that_is_not_legal(text):
    with pytest.raises(mf.MeanFieldError, match=r"memory = .* is not legal"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"widths": (5,)}, "widths"),
        ({"widths": 5}, "widths"),
        ({"widths": (5, 0)}, "widths"),
        ({"widths": (5, 2.0)}, "widths"),
        ({"widths": (5, True)}, "widths"),
        ({"networks": 1}, "networks = 1 "),
        ({"networks": 2.5}, "networks = 2.5 "),
        ({"seed": 0.5}, "seed = 0.5 "),
        ({"seed": -1}, "seed = -1 "),
        ({"seed": 2**63}, "seed"),
        ({"seed": "a"}, "seed = 'a'"),
        ({"c": 1.1}, "c = 1.1 "),
        ({"c": math.nan}, "c = nan "),
        ({"c": "x"}, "c = 'x'"),
        ({"c": np.array([0.1])}, "c = "),
        ({"widths": (1, 3)}, "width 1"),
        ({"q": 0.0}, "q = 0.0 "),
        ({"q": (1.0, -1.0)}, "q = "),
        ({"q": (1.0, 1.0, 1.0)}, "q = "),
        ({"q": "x"}, "q = "),
        ({"memory": 100}, r"memory = 100 .* one network: it takes \d+ bytes"),
        ({"memory": "1MB", "widths": (1000, 1000)}, r"it takes \d+\.\dMiB"),
        ({"memory": "lots"}, "memory = 'lots'"),
        ({"spectra": [3]}, "spectra"),
        ({"spectra": [-1]}, "spectra"),
        ({"spectra": [1], "jacobians": False}, "jacobians"),
        ({"layer": mf.Repeat(DENSE, 3)}, "2 layers, but the stack has 3"),
        ({"layer": mf.Dense(TANH, np.array([1.0, 2.0]))}, "single"),
        ({"layer": mf.Dense(mf.activation("swish", beta=np.ones(2)), 1.0)}, "single"),
        ({"layer": TANH}, "Dense"),
        ({"layer": mf.Dense(RELU, 2.0), "q": None}, "q must be given.*lower sigma_w"),
    ],
)
def test_what_is_refused(options, named):
    options = {"layer": DENSE, "widths": (5, 4, 3), "q": 1.0, "networks": 3, **options}
    with pytest.raises(mf.MeanFieldError, match=named):
        simulate(**options)


def test_a_width_of_one_takes_equal_or_opposite_inputs():
    found = simulate(DENSE, (1, 3, 1), 1.0, -1.0, networks=3)
    np.testing.assert_allclose(found.samples["c"][:, 0], -1.0)
    assert np.isfinite(found.samples["q2"]).all()
