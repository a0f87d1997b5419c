"""Models that the initialisers are not for are refused by the names of their parts."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import copy
import math

import jax
import numpy as np
import pytest

import meanfield as mf
from meanfield.errors import MeanFieldError, MeanFieldWarning

EDGE = {"activation": "tanh", "sigma_b": 0.3}


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def init(model, **settings):
    from meanfield.integrations.torch import init_

    return init_(model, **{**EDGE, **settings})


def refused(model, *words, **settings):
    """Assert that a model is refused with such words, and is as it was."""
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(MeanFieldError, match=r"^model is not legal") as told:
        init(model, **settings)
    for word in words:
        assert word in str(told.value)
    for name, tensor in model.state_dict().items():
        assert (tensor == before[name]).all()


def mlp(torch, *between, **options):
    """Return three layers with modules between the first two, and Tanh before the third."""
    nn = torch.nn
    linear = [nn.Linear(6, 6, **options) for _ in range(3)]
    return nn.Sequential(linear[0], *between, linear[1], nn.Tanh(), linear[2])


def forward_of(torch, function, **parts):
    """Return a model with these modules whose forward code is a function of itself and x."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, x):
            return function(self, x)

    return Model()


def test_residual_blocks_are_refused_by_name(torch):
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x):
            return x + self.two(torch.tanh(self.one(torch.tanh(x))))

    model = nn.Sequential(nn.Linear(6, 6), Block(), Block(), nn.Linear(6, 2))
    refused(model, "1 (add in Block), 2 (add in Block)", "joins two paths")


@pytest.mark.parametrize("join", ["cat", "mul", "stack"])
def test_other_joins_are_refused(torch, join):
    joins = {
        "cat": lambda a, b: torch.cat([a, b], 1)[:, :6],
        "mul": lambda a, b: a * b,
        "stack": lambda a, b: torch.stack([a, b]).sum(0),
    }
    one, two, out = (torch.nn.Linear(6, 6) for _ in range(3))
    model = forward_of(
        torch,
        lambda m, x: m.out(torch.tanh(joins[join](m.one(x), m.two(x)))),
        one=one,
        two=two,
        out=out,
    )
    refused(model, f"({join} in Model)", "joins two paths")


def test_gated_units_are_refused(torch):
    def gated(m, x):
        values, gates = m.one(x).chunk(2, -1)
        return m.two(values * torch.sigmoid(gates))

    one, two = torch.nn.Linear(6, 12), torch.nn.Linear(6, 6)
    refused(forward_of(torch, gated, one=one, two=two), "mul in Model", "not elementwise")
    refused(torch.nn.Sequential(one, torch.nn.GLU(), two), "1 (GLU)", "not elementwise")


def test_a_layer_used_twice_is_refused(torch):
    layer = torch.nn.Linear(6, 6)
    refused(torch.nn.Sequential(layer, torch.nn.Tanh(), layer), "0 (Linear)", "more than once")


@pytest.mark.parametrize("norm", ["BatchNorm1d", "LayerNorm", "GroupNorm", "RMSNorm", "Instance"])
def test_normalisation_is_refused_by_name(torch, norm):
    nn = torch.nn
    part = {
        "BatchNorm1d": lambda: nn.BatchNorm1d(6),
        "LayerNorm": lambda: nn.LayerNorm(6, elementwise_affine=False),
        "GroupNorm": lambda: nn.GroupNorm(2, 6),
        "RMSNorm": lambda: nn.RMSNorm(6),
        "Instance": lambda: nn.InstanceNorm1d(6),
    }[norm]()
    refused(mlp(torch, part, nn.Tanh()), f"1 ({type(part).__name__})", "normalises")


def test_normalisation_by_a_function_is_refused(torch):
    function = torch.nn.functional.layer_norm
    model = forward_of(
        torch,
        lambda m, x: m.two(torch.tanh(function(m.one(x), (6,)))),
        one=torch.nn.Linear(6, 6),
        two=torch.nn.Linear(6, 6),
    )
    refused(model, "layer_norm in Model", "normalises")


def test_normalisation_of_a_users_own_is_refused(torch):
    class Unit(torch.nn.Module):
        def forward(self, x):
            return x / x.square().mean(-1, keepdim=True).sqrt()

    refused(mlp(torch, Unit(), torch.nn.Tanh()), "(Tanh)", "not elementwise")


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_transformers_are_refused_by_name(torch):
    nn = torch.nn
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, dim_feedforward=8), 2)
    refused(encoder, "model (TransformerEncoder)", "attention")
    model = nn.Sequential(nn.Linear(8, 8), encoder)
    refused(model, "1 (TransformerEncoder)", "attention")


def test_recurrence_and_other_weights_are_refused_by_name(torch):
    nn = torch.nn
    refused(nn.Sequential(nn.LSTM(6, 6), nn.Linear(6, 6)), "0 (LSTM)", "recurrent")
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Tanh(), nn.ConvTranspose2d(4, 4, 3))
    refused(model, "2 (ConvTranspose2d)", "weights that are not those of a Linear or Conv")


def test_layers_without_bias_are_refused_where_the_edge_needs_biases(torch):
    nn = torch.nn
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6, bias=False))
    refused(model, "2 (Linear)", "no bias while sigma_b > 0", activation="relu", sigma_w=1.0)
    init(model, activation="relu", sigma_w=1.0, sigma_b=0.0)


def test_another_activation_is_refused_by_name_and_value(torch):
    refused(mlp(torch, torch.nn.ReLU()), "1 (ReLU)", "value at -0.2 is 0", "-0.1974")
    # Clipping is seen only far out.
    refused(mlp(torch, torch.nn.Hardtanh(-6, 6)), activation=lambda x: x, sigma_w=1.0)
    model = forward_of(
        torch,
        lambda m, x: m.two(m.one(x).relu()),
        one=torch.nn.Linear(6, 6),
        two=torch.nn.Linear(6, 6),
    )
    refused(model, "relu in Model")


def test_activations_are_known_by_their_values(torch):
    class Own(torch.nn.Module):
        def forward(self, x):
            return (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())

    init(mlp(torch, Own()))
    functional = forward_of(
        torch,
        lambda m, x: m.two((lambda h: h * torch.sigmoid(h))(m.one(x.view(x.size(0), -1)))),
        one=torch.nn.Linear(6, 6),
        two=torch.nn.Linear(6, 6),
    )
    with pytest.warns(MeanFieldWarning, match="V' = "):
        init(functional, activation="silu")


def test_activations_may_be_modules_and_callables(torch):
    by_name = init(mlp(torch, torch.nn.Tanh()), dry_run=True)
    for given in (torch.nn.Tanh(), torch.tanh, mf.activation("tanh")):
        found = init(mlp(torch, torch.nn.Tanh()), activation=given, dry_run=True)
        for one, two in zip(found, by_name, strict=True):
            assert one.sigma_w == pytest.approx(two.sigma_w, rel=1e-10)
    prelu = torch.nn.PReLU()
    model = torch.nn.Sequential(torch.nn.Linear(6, 6), prelu, torch.nn.Linear(6, 6))
    init(model, activation=prelu, sigma_b=0.0, sigma_w=1.3)
    with pytest.raises(MeanFieldError, match="it must be elementwise"):
        init(model, activation=torch.nn.Softmax(0))
    with pytest.raises(MeanFieldError, match="None is not legal; it must be an Activation"):
        init(model, activation=None)


def test_the_output_may_have_its_own_activation(torch):
    nn = torch.nn
    init(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Sigmoid()))


def test_what_leaves_the_scales_sensible_is_warned_of(torch):
    nn = torch.nn
    for model, words in (
        (mlp(torch, nn.Tanh(), nn.Dropout(0.1)), r"2 \(Dropout\): it drops units"),
        (mlp(torch), r"1 \(Linear\): there is no activation before it"),
        (
            nn.Sequential(nn.Conv2d(4, 4, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3)),
            "pools",
        ),
    ):
        with pytest.warns(MeanFieldWarning, match=words) as told:
            init(model)
        assert told[0].filename == __file__
    init(mlp(torch, nn.Tanh(), nn.Dropout(0.0)))


def test_forward_code_that_cannot_be_traced_is_trusted_aloud(torch):
    def branch(m, x):
        return m.two(m.act(m.one(x if x.sum() > 0 else -x)))

    parts = {"one": torch.nn.Linear(6, 6), "two": torch.nn.Linear(6, 6)}
    model = forward_of(torch, branch, **parts, act=torch.nn.Tanh())
    with pytest.warns(
        MeanFieldWarning, match=r"model \(Model\): its forward code cannot be traced"
    ):
        init(model)
    refused(forward_of(torch, branch, **parts, act=torch.nn.ReLU()), "act (ReLU)")


def test_the_order_is_that_of_the_operations(torch):
    model = forward_of(
        torch,
        lambda m, x: m.late(torch.tanh(m.early(x))),
        late=torch.nn.Linear(6, 6),
        early=torch.nn.Linear(6, 6),
    )
    roles = {one.name: one.role for one in init(model, dry_run=True)}
    assert roles == {"late": "output", "early": "input"}


def test_a_dry_run_lists_all_layers_and_changes_nothing(torch):
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, groups=1), nn.Tanh(), nn.Flatten(), nn.Linear(32, 16), nn.Tanh()
    ).append(nn.Linear(16, 2))
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    plan = init(model, dry_run=True)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], one) for name, one in model.state_dict().items())
    edge = mf.edge_of_chaos(mf.activation("tanh"), 0.3)
    assert [(one.name, one.kind, one.shape, one.fan_in, one.role) for one in plan] == [
        ("0", "Conv2d", (8, 3, 3, 3), 27, "input"),
        ("3", "Linear", (16, 32), 32, "hidden"),
        ("5", "Linear", (2, 16), 16, "output"),
    ]
    assert [one.sigma_b for one in plan] == [0.3] * 3
    assert plan[1].sigma_w == plan[2].sigma_w == float(edge.sigma_w)
    assert plan[0].sigma_w == pytest.approx(float(np.sqrt(edge.q - 0.09)))
    head, *rows = str(plan).splitlines()
    assert head.split() == ["name", "kind", "shape", "fan_in", "role", "sigma_w", "sigma_b"]
    assert [row.split()[0] for row in rows] == ["0", "3", "5"]


def test_chains_get_what_their_seeds_say(torch):
    """Each tensor takes a seed of PyTorch's, in the order of registration, weights first."""
    nn = torch.nn
    conv = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(24, 5))
    edge = mf.edge_of_chaos(mf.activation("tanh"), 0.3)
    scales = float(np.sqrt(edge.q - 0.3**2)), float(edge.sigma_w)
    for model in (mlp(torch, nn.Tanh()), conv):
        init(model, generator=torch.Generator().manual_seed(3))
        seeds = torch.Generator().manual_seed(3)
        layers = [part for part in model if hasattr(part, "weight")]
        for number, layer in enumerate(layers):
            keys = [
                jax.random.key(int(torch.randint(2**62, (), generator=seeds))) for _ in range(2)
            ]
            draw = mf.init.weights(scales[number > 0], in_axis=1, out_axis=0)
            groups = getattr(layer, "groups", 1)
            shape = (layer.weight.shape[0] // groups, *layer.weight.shape[1:])
            parts = [draw(key, shape) for key in jax.random.split(keys[0], groups)]
            np.testing.assert_allclose(layer.weight.detach(), np.concatenate(parts), rtol=1e-6)
            bias = mf.init.biases(0.3)(jax.random.split(keys[1], 1)[0], layer.bias.shape)
            np.testing.assert_allclose(layer.bias.detach(), bias, rtol=1e-6)


def test_what_was_assessed_initialises_a_model(torch):
    one = mf.assess(mf.Dense("tanh", 1.1, 0.05), 10, 0.3)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 256), torch.nn.Tanh(), torch.nn.Linear(256, 256)
    )
    first, last = one.init_(model, dry_run=True, second_moment=0.5)
    assert first.sigma_w == pytest.approx(math.sqrt((0.3 - 0.05**2) / 0.5))
    assert (last.sigma_w, last.sigma_b) == (1.1, 0.05)
    assert one.init_(model) is model
    spread = float(model[2].weight.detach().double().std()) * 16
    assert spread == pytest.approx(1.1, rel=4 / math.sqrt(2 * 256**2))
    with pytest.raises(MeanFieldError, match="it must be a module of torch, keras"):
        one.init_([1, 2])


def test_what_was_assessed_has_initialisers():
    one = mf.assess(mf.Dense("relu", math.sqrt(2), 0.1), 10, 0.3)
    first, weights, biases = one.initializers(second_moment=0.25)
    key = jax.random.key(0)
    for draw, shape, sigma in (
        (first, (64, 512), math.sqrt((0.3 - 0.1**2) / 0.25)),
        (weights, (64, 512), math.sqrt(2)),
    ):
        found = np.asarray(draw(key, shape)) * 8
        assert found.std() == pytest.approx(sigma, rel=4 / math.sqrt(2 * 64 * 512))
    assert np.asarray(biases(key, (4096,))).std() == pytest.approx(0.1, rel=4 / math.sqrt(8192))


def test_q_must_hold_the_variance_of_biases(torch):
    model = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Tanh(), torch.nn.Linear(6, 6))
    with pytest.raises(MeanFieldError, match=r"q = 0\.01 is not legal"):
        init(model, activation="tanh", sigma_w=1.0, sigma_b=0.2, q=0.01)


def test_a_network_that_trains_slowly_is_warned_of():
    torch = pytest.importorskip("torch")
    best = mf.recommend("relu", depth=100).best
    assert not best.trainable
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8), torch.nn.ReLU()
    )
    with pytest.warns(mf.MeanFieldWarning, match=r"inputs merge .*`choice`"):
        best.init_(model)
    with pytest.warns(mf.MeanFieldWarning, match="trains slowly"):
        best.initializers()


def test_an_edge_that_starts_at_0_is_not_called_solved():
    torch = pytest.importorskip("torch")
    from meanfield.integrations.torch import init_

    with pytest.raises(mf.MeanFieldError, match=r"no q > 0 at sigma_b = 0 \(its q is 0\)"):
        init_(torch.nn.Sequential(torch.nn.Linear(8, 8)), activation="tanh", sigma_b=0)


def test_a_class_is_not_an_activation():
    torch = pytest.importorskip("torch")
    with pytest.raises(mf.MeanFieldError, match=r"give an object, Mish\(\)"):
        mf.edge_of_chaos(torch.nn.Mish, 0.1)
