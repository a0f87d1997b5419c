"""Initialisers in real frameworks: what networks do, layer by layer, is what the theory says."""

import contextlib
import io
import os
from typing import get_args

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from test_cli import fails, run

import meanfield as mf
from meanfield.errors import MeanFieldError
from meanfield.integrations import critical

DEPTH, WIDTH, NETWORKS = 100, 128, 12
SIGMA_B = 0.05
EDGE = mf.edge_of_chaos(mf.activation("tanh"), SIGMA_B)
Q, SIGMA_W = float(EDGE.q), float(EDGE.sigma_w)
FIRST = float(np.sqrt(Q - SIGMA_B**2))


# An affine layer is known by what it does to the unit vectors, and to nothing.
PROBES = np.vstack([np.eye(WIDTH), np.zeros(WIDTH)])


@jax.jit
def signals(matrices, biases, x):
    """Return |h|²/N and the squared gradient by layer, of affine maps with tanh between them."""

    def network(nudges):
        def layer(y, affine):
            matrix, bias, nudge = affine
            h = y @ matrix + bias + nudge
            return jnp.tanh(h), h

        _, h = jax.lax.scan(layer, x, (matrices, biases, nudges))
        return h[-1], jnp.mean(h**2, axis=1)

    _, pull, q = jax.vjp(network, jnp.zeros_like(biases), has_aux=True)
    (deltas,) = pull(jnp.ones(WIDTH) / np.sqrt(WIDTH))
    return q, jnp.sum(deltas**2, axis=1)


def measured(layers, x):
    """Return `signals` of a framework's layers, which are functions of a batch."""
    seen = np.stack([np.asarray(layer(PROBES)) for layer in layers])
    matrices, biases = seen[:, :-1] - seen[:, -1:], seen[:, -1]
    return tuple(map(np.asarray, signals(matrices, biases, x)))


def agree(samples):
    """Assert that networks keep q* and gradients in the mean, within 4 standard errors."""
    q, gradients = (np.stack(part) for part in zip(*samples, strict=True))
    error = q.std(axis=0, ddof=1) / np.sqrt(len(q))
    # Besides, the mean deviates by a part of order 1/N.
    assert np.all(np.abs(q.mean(axis=0) - Q) < 4 * error + 4 * Q / WIDTH)
    error = gradients.std(axis=0, ddof=1) / np.sqrt(len(q))
    # A layer's nudge adds to h itself: the gradient with respect to it is δ, of norm 1 at the top.
    assert np.all(np.abs(gradients.mean(axis=0) - 1) < 4 * error + DEPTH / WIDTH / 4)
    assert gradients[:, -1] == pytest.approx(1)


def agree_at_first(samples):
    """Assert that networks keep q* in the mean through some layers, before they fluctuate much."""
    q = np.stack(samples)[:, :5]
    error = q.std(axis=0, ddof=1) / np.sqrt(len(q))
    assert np.all(np.abs(q.mean(axis=0) - Q) < 4 * error + 4 * Q / WIDTH)


def inputs(number):
    x = np.random.default_rng(number).normal(size=WIDTH)
    return x * np.sqrt(WIDTH) / np.linalg.norm(x)


@pytest.mark.parametrize("distribution", ["gaussian", "orthogonal"])
def test_jax(distribution):
    def network(seed):
        keys = jax.random.split(jax.random.key(seed), 2 * DEPTH)
        scales = [FIRST, *[SIGMA_W] * (DEPTH - 1)]
        draws = [
            (
                mf.init.weights(scale, distribution)(one, (WIDTH, WIDTH)),
                mf.init.biases(SIGMA_B)(two, (WIDTH,)),
            )
            for scale, one, two in zip(scales, keys[::2], keys[1::2], strict=True)
        ]
        return [lambda x, w=w, b=b: x @ w + b for w, b in draws]

    if distribution == "gaussian":
        agree_at_first([measured(network(seed), inputs(seed))[0] for seed in range(NETWORKS)])
    else:
        agree([measured(network(seed), inputs(seed)) for seed in range(NETWORKS)])


def test_flax():
    nnx, linen = (pytest.importorskip(f"flax.{name}") for name in ("nnx", "linen"))

    def network(seed):
        rngs = nnx.Rngs(seed)
        scales = [FIRST, *[SIGMA_W] * (DEPTH - 1)]
        return [
            nnx.Linear(
                WIDTH,
                WIDTH,
                kernel_init=mf.init.weights(scale, "orthogonal"),
                bias_init=mf.init.biases(SIGMA_B),
                param_dtype=jnp.float64,
                rngs=rngs,
            )
            for scale in scales
        ]

    agree([measured(network(seed), inputs(seed)) for seed in range(NETWORKS)])
    dense = linen.Dense(7, kernel_init=mf.init.weights(2.0), bias_init=mf.init.biases(0.0))
    kernel = dense.init(jax.random.key(0), jnp.ones((1, 5)))["params"]["kernel"]
    assert kernel.shape == (5, 7)
    assert kernel.dtype == jnp.float32
    conv = linen.Conv(8, (3, 3), kernel_init=mf.init.weights(2.0, "delta_orthogonal"))
    kernel = conv.init(jax.random.key(0), jnp.ones((1, 9, 9, 4)))["params"]["kernel"]
    assert kernel.shape == (3, 3, 4, 8)


def test_equinox():
    eqx = pytest.importorskip("equinox")
    from meanfield.integrations.equinox import init

    # What they begin with is replaced.
    first = jax.random.key(0)
    model = [eqx.nn.Linear(WIDTH, WIDTH, key=first, dtype=float) for _ in range(DEPTH)]

    def network(seed):
        key = jax.random.key(seed)
        settings = {"activation": "tanh", "sigma_b": SIGMA_B, "distribution": "orthogonal"}
        return [jax.vmap(layer) for layer in init(model, key, **settings)]

    agree([measured(network(seed), inputs(seed)) for seed in range(NETWORKS)])
    conv = eqx.nn.Conv2d(4, 8, 3, key=jax.random.key(0))
    settings = {"activation": "tanh", "sigma_b": 0.3, "distribution": "delta_orthogonal"}
    changed = init(conv, jax.random.key(1), **settings)
    assert changed.weight.shape == conv.weight.shape
    assert not np.asarray(changed.weight)[..., 0, 0].any()
    with pytest.raises(MeanFieldError, match="it must have layers with weights"):
        init([jnp.ones(3)], jax.random.key(0), activation="tanh", sigma_b=0.1)


def test_keras():
    keras = pytest.importorskip("keras")
    assert keras.backend.backend() == "jax"
    from meanfield.integrations.keras import MeanField

    def network(seed):
        keras.utils.set_random_seed(seed)
        layers = []
        for number in range(DEPTH):
            layer = keras.layers.Dense(
                WIDTH,
                kernel_initializer=MeanField(SIGMA_W if number else FIRST, "orthogonal"),
                bias_initializer=MeanField(SIGMA_B, "bias"),
                dtype="float64",
            )
            layer.build((None, WIDTH))
            layers.append(layer)
        return layers

    agree([measured(network(seed), inputs(seed)) for seed in range(NETWORKS)])
    one = MeanField(1.5, "orthogonal", seed=3)
    again = keras.initializers.get(keras.initializers.serialize(one))
    np.testing.assert_array_equal(one((4, 6)), again((4, 6)))


@pytest.mark.parametrize("distribution", ["orthogonal", "gaussian"])
def test_torch(distribution):
    torch = pytest.importorskip("torch")
    from meanfield.integrations.torch import init_

    def network(seed):
        torch.manual_seed(seed)
        layers = [torch.nn.Linear(WIDTH, WIDTH, dtype=torch.float64) for _ in range(DEPTH)]
        between = [part for layer in layers for part in (torch.nn.Tanh(), layer)]
        model = torch.nn.Sequential(*between[1:])
        found = init_(model, activation="tanh", sigma_b=SIGMA_B, distribution=distribution)
        assert found is model
        return [lambda x, layer=layer: layer(torch.from_numpy(x)).detach() for layer in layers]

    samples = [measured(network(seed), inputs(seed)) for seed in range(NETWORKS)]
    if distribution == "orthogonal":
        agree(samples)
    else:
        agree_at_first([q for q, _ in samples])


def test_torch_convolutions_and_what_it_refuses():
    torch = pytest.importorskip("torch")
    from meanfield.integrations.torch import init_

    conv = torch.nn.Conv2d(16, 32, 3, bias=False)
    init_(conv, activation="relu", sigma_w=2.0, distribution="delta_orthogonal")
    kernel = conv.weight.detach()
    middle = kernel[:, :, 1, 1]
    gram = middle.T @ middle
    assert torch.allclose(gram, 2.0**2 * 2 * torch.eye(16), atol=1e-5)
    assert float(kernel.abs().sum()) == pytest.approx(float(middle.abs().sum()))
    init_(conv, activation="relu", sigma_w=2.0)
    assert float(kernel.var()) == pytest.approx(4 / (9 * 16), rel=0.1)
    before = kernel.clone()
    for settings, words in (
        ({"activation": "softplus"}, "no q > 0"),
        ({"activation": "tanh"}, "no q > 0"),
        ({"activation": "tanh", "sigma_b": -1.0}, "sigma_b = -1.0 is not legal"),
        ({"activation": "tanh", "sigma_b": 0.1, "distribution": "cauchy"}, "unknown distribution"),
        ({"activation": "tanh", "sigma_b": 0.1, "second_moment": 0.0}, "second_moment = 0.0"),
        ({"activation": "tahn", "sigma_b": 0.1}, "did you mean tanh"),
    ):
        with pytest.raises(MeanFieldError, match=words):
            init_(conv, **settings)
    assert torch.equal(conv.weight, before)
    with pytest.warns(mf.errors.MeanFieldWarning, match=r"V' = 1.* > 1"):
        init_(torch.nn.Conv2d(16, 32, 3), activation="gelu", sigma_b=0.1)
    grouped = torch.nn.Conv2d(8, 8, 1, groups=2, bias=False)
    init_(grouped, activation="relu", sigma_w=2.0, distribution="orthogonal")
    for part in grouped.weight.detach()[:, :, 0, 0].split(4):
        assert torch.allclose(part.T @ part, 4 * torch.eye(4), atol=1e-5)
    tied = torch.nn.Sequential(torch.nn.Linear(50, 50), torch.nn.Tanh(), torch.nn.Linear(50, 50))
    tied[2].weight = tied[0].weight
    init_(tied, activation="tanh", sigma_b=0.3, distribution="orthogonal")
    first = float(torch.linalg.norm(tied[0].weight.detach(), 2))
    point = mf.edge_of_chaos(mf.activation("tanh"), 0.3)
    assert first == pytest.approx(float(np.sqrt(point.q - 0.3**2)), rel=1e-5)
    normed = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 3))
    with pytest.raises(MeanFieldError, match="are parametrized"):
        init_(normed, activation="tanh", sigma_b=0.3)
    one, two = (
        init_(
            torch.nn.Linear(3, 3),
            activation="tanh",
            sigma_b=0.3,
            generator=torch.Generator().manual_seed(5),
        )
        for _ in range(2)
    )
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.bias, two.bias)
    with pytest.raises(MeanFieldError, match="lazy"):
        init_(torch.nn.LazyLinear(3), activation="tanh", sigma_b=0.1)
    with pytest.raises(MeanFieldError, match="it must have layers"):
        init_(torch.nn.Tanh(), activation="tanh", sigma_b=0.1)


def test_torch_gains():
    """By mpmath, 1/√(E φ(z)²); PyTorch has no gain for most of these."""
    torch = pytest.importorskip("torch")
    from meanfield.integrations.torch import calculate_gain

    for given, gain in (
        ("tanh", 1.5925374197),
        (torch.tanh, 1.5925374197),
        (torch.nn.GELU(), 1.5335304412),
        (torch.nn.SiLU(), 1.6765324703),
        (torch.nn.Mish(), 1.4868475813),
        (torch.nn.ELU(), 1.2451983007),
        (torch.nn.ReLU(), np.sqrt(2)),
        (torch.nn.Hardtanh(), 1.3920361404),
        (mf.activation("sin"), 1.5208666232),
    ):
        assert calculate_gain(given) == pytest.approx(gain, rel=1e-10)
    assert calculate_gain(torch.nn.PReLU()) == pytest.approx(np.sqrt(2 / (1 + 0.25**2)), rel=1e-6)
    with pytest.raises(MeanFieldError, match="must be positive"):
        calculate_gain(torch.zeros_like)
    with pytest.raises(MeanFieldError, match="elementwise"):
        calculate_gain(torch.nn.Softmax(dim=0))
    with pytest.raises(MeanFieldError, match="elementwise"):
        calculate_gain(lambda _: "no tensor")


@pytest.mark.parametrize("shape", [(3, 3, 8, 5), (3, 3, 5, 8)])
@pytest.mark.parametrize("distribution", get_args(mf.init.Distribution))
def test_kernels_keep_second_moments(shape, distribution):
    keys = jax.random.split(jax.random.key(0), 400)
    draw = mf.init.weights(1.5, distribution)
    kernels = np.stack([draw(key, shape) for key in keys])
    # Of an output, all entries of its kernel together.
    norms = (kernels**2).sum(axis=(1, 2, 3))
    error = norms.std() / np.sqrt(norms.size)
    assert abs(norms.mean() - 1.5**2) <= max(4 * error, 1e-12)


# The largest |W| √N_in/σw, and E W⁴/(E W²)² - 1, of which the estimated variance has its error.
SUPPORTS = {"gaussian": (np.inf, 2.0), "uniform": (np.sqrt(3), 0.8)}
INSIDE = special.erf(np.sqrt(2))
# Moments of a normal distribution within ±2.
SECOND = 1 - 4 * np.exp(-2) / np.sqrt(2 * np.pi) / INSIDE
FOURTH = 3 * SECOND - 16 * np.exp(-2) / np.sqrt(2 * np.pi) / INSIDE
SUPPORTS["truncated_normal"] = (2 / np.sqrt(SECOND), FOURTH / SECOND**2 - 1)


@pytest.mark.parametrize("distribution", SUPPORTS)
def test_independent_weights_have_their_variance_and_support(distribution):
    widest, spread = SUPPORTS[distribution]
    inputs, outputs, sigma_w = 100, 400, 1.7
    drawn = mf.init.weights(sigma_w, distribution)(jax.random.key(5), (inputs, outputs))
    unit = np.asarray(drawn, dtype=float) * np.sqrt(inputs) / sigma_w
    assert np.abs(np.mean(unit**2) - 1) < 4 * np.sqrt(spread / unit.size)
    assert np.abs(np.mean(unit)) < 4 / np.sqrt(unit.size)
    assert np.abs(unit).max() <= widest * (1 + 1e-12)
    if np.isfinite(widest):
        # So many numbers come close to the ends.
        assert np.abs(unit).max() > widest * (1 - 5e-3)


def test_equinox_takes_every_distribution():
    eqx = pytest.importorskip("equinox")
    from meanfield.integrations.equinox import init

    model = eqx.nn.Linear(64, 48, key=jax.random.key(0))
    drawn = init(
        model, jax.random.key(1), activation="tanh", sigma_w=1.5, distribution="truncated_normal"
    )
    assert np.abs(drawn.weight).max() <= 1.5 / 8 * 2 / np.sqrt(SECOND) * (1 + 1e-6)


@pytest.mark.parametrize(
    "sigma", [np.array([1.5]), [1.5], "wide", None, True, -1.0, np.inf, np.nan, 1j]
)
def test_what_is_no_single_standard_deviation_is_named(sigma):
    with pytest.raises(MeanFieldError, match=r"^sigma_w = .* is not legal; it must be a"):
        mf.init.weights(sigma)
    with pytest.raises(MeanFieldError, match=r"^sigma_b = .* is not legal; it must be a"):
        mf.init.biases(sigma)


def test_a_traced_standard_deviation_is_named():
    with pytest.raises(MeanFieldError, match=r"^sigma_w = .* and not traced"):
        jax.jit(lambda s: mf.init.weights(s)(jax.random.key(0), (2, 2)))(1.5)


@pytest.mark.parametrize("dtype", [jnp.int32, np.int64, bool, jnp.complex64, "words"])
def test_a_dtype_without_fractions_is_named(dtype):
    for draw in (mf.init.weights(1.0), mf.init.biases(1.0)):
        with pytest.raises(MeanFieldError, match=r"^dtype = .* it must be a floating type"):
            draw(jax.random.key(0), (3, 3), dtype)


@pytest.mark.parametrize("distribution", get_args(mf.init.Distribution))
def test_weights_without_inputs_are_named(distribution):
    with pytest.raises(MeanFieldError, match=r"^shape = \(3, 0, 4\) is not legal"):
        mf.init.weights(1.0, distribution)(jax.random.key(0), (3, 0, 4))


@pytest.mark.parametrize("shape", [5, (2.5, 3), (True, 3), (-1, 3), None, "ab"])
def test_what_is_no_shape_is_named(shape):
    with pytest.raises(MeanFieldError, match=r"^shape = .* is not legal"):
        mf.init.weights(1.0)(jax.random.key(0), shape)


def test_axes_are_integers():
    drawn = mf.init.weights(1.0, in_axis=np.int64(0), out_axis=np.int64(1))
    assert drawn(jax.random.key(0), (2, 3)).shape == (2, 3)
    with pytest.raises(MeanFieldError, match=r"^in_axis = 0.5 is not legal"):
        mf.init.weights(1.0, in_axis=0.5)


def test_axes_and_types():
    draw = mf.init.weights(2.0, "orthogonal", in_axis=1, out_axis=0)
    matrix = draw(jax.random.key(0), (6, 4), jnp.float32)
    assert matrix.dtype == jnp.float32
    np.testing.assert_allclose(matrix.T @ matrix, 4 * 6 / 4 * np.eye(4), atol=1e-5)
    assert mf.init.weights(1.0)(jax.random.key(0), (3, 4), jnp.bfloat16).dtype == jnp.bfloat16
    for bad in ((3,), ()):
        with pytest.raises(MeanFieldError, match="it needs the axes"):
            mf.init.weights(1.0)(jax.random.key(0), bad)
    with pytest.raises(MeanFieldError, match="it must be that of a kernel"):
        mf.init.weights(1.0, "delta_orthogonal")(jax.random.key(0), (3, 4))
    with pytest.raises(MeanFieldError, match="sigma_w = nan is not legal"):
        mf.init.weights(float("nan"))
    with pytest.raises(MeanFieldError, match="sigma_b = -1 is not legal"):
        mf.init.biases(-1)
    with pytest.raises(MeanFieldError, match="unknown distribution 'normal'"):
        mf.init.weights(1.0, "normal")


@pytest.mark.parametrize(
    ("framework", "module"),
    [
        ("jax", "jax"),
        ("flax", "flax"),
        ("torch", "torch"),
        ("keras", "keras"),
        ("equinox", "equinox"),
    ],
)
def test_snippets_run(framework, module, tmp_path):
    pytest.importorskip(module)
    (tmp_path / "mine.py").write_text("def phi(x):\n    return x / (1 + x * x) ** 0.5\n")
    for name, options in (
        ("tanh", ()),
        ("shtanh", ("--param", "a=2", "--second-moment", "0.5", "--distribution", "orthogonal")),
        (f"{tmp_path}/mine.py:phi", ()),
    ):
        told = run("init", name, "--framework", framework, *options)
        assert told.exit_code == 0, told.output
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(compile(told.stdout, "snippet", "exec"), {})
        assert said.getvalue()


def test_the_command_says_what_is_wrong(capsys):
    assert "did you mean torch" in fails(capsys, "init", "tanh", "--framework", "troch")
    assert "no edge of chaos" in fails(capsys, "init", "softplus", "--framework", "jax")
    said = fails(capsys, "init", "tanh", "--framework", "jax", "--distribution", "x")
    assert "unknown distribution" in said
    said = fails(capsys, "init", "tanh", "--framework", "jax", "--distribution", "delta_orthogonal")
    assert "unknown distribution" in said


def test_an_absent_framework_is_one_line():
    with pytest.raises(MeanFieldError, match="nosuch is not installed: pip install it"):
        critical.framework("nosuch", "it")
