"""What stands for an activation: names, classes, callables, modules of PyTorch, files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield.activations.named import named

torch = pytest.importorskip("torch")

# q* of tanh on the edge at σb = 0.3 is that of every way to say tanh.
TANH = float(mf.edge_of_chaos(mf.activation("tanh"), 0.3).q)


@pytest.mark.parametrize(
    "phi",
    [
        "tanh",
        mf.activations.Tanh,
        jnp.tanh,
        np.tanh,
        torch.tanh,
        torch.nn.Tanh(),
        "torch:Tanh",
        "torch:tanh",
    ],
    ids=["name", "class", "JAX", "NumPy", "PyTorch", "module", "torch:module", "torch:function"],
)
def test_whatever_stands_for_an_activation_is_one(phi):
    assert float(mf.edge_of_chaos(phi, 0.3).q) == pytest.approx(TANH, rel=1e-11)


ASKED = {
    "Dense": lambda phi: mf.steady_state(mf.Dense(phi, 1.5, 0.3)).q,
    "critical_point": lambda phi: mf.critical_point(phi, 1.0).sigma_w,
    "edge_branches": lambda phi: mf.edge_branches(phi, 0.3).q,
    "edge_curve": lambda phi: mf.edge_curve(phi, [1.0]).curve.sigma_w,
    "convergence_rate": lambda phi: mf.convergence_rate(phi, 1.0).constant,
    "classify": lambda phi: mf.classify(phi).universality == "smooth",
    "describe": lambda phi: mf.describe(phi).verdict.universality == "smooth",
    "is_scaled_bounded": lambda phi: bool(mf.is_scaled_bounded(phi)),
    "mollify": lambda phi: mf.mollify(phi)(0.3),
    "scale": lambda phi: mf.scale(phi, 2.0)(0.3),
    "shift": lambda phi: mf.shift(phi, 2.0)(0.3),
    "centre": lambda phi: mf.centre(phi)(0.3),
    "tabulate": lambda phi: mf.tabulate(phi, ("moments",)).second_moment(1.0),
    "universality_class": lambda phi: str(mf.universality_class(phi)),
    "tat": lambda phi: mf.tat(phi, 10).output_scale,
    "dks": lambda phi: mf.dks(phi, 10).output_scale,
    "recommend": lambda phi: mf.recommend(phi, 10).best.q,
    "phase_diagram": lambda phi: mf.phase_diagram(phi, [1.5], [0.3])["q"].values,
}


@pytest.mark.parametrize("name", ASKED)
def test_every_function_of_an_activation_takes_its_name(name):
    ours, exact = ASKED[name]("tanh"), ASKED[name](mf.activation("tanh"))
    assert np.all(np.asarray(ours) == np.asarray(exact))


def test_a_module_is_taken_as_it_is_now():
    module = torch.nn.PReLU(init=0.1)
    phi = mf.from_callable(module)
    with torch.no_grad():
        module.weight.fill_(0.9)
    assert float(phi(jnp.asarray(-1.0))) == pytest.approx(-0.1)
    assert float(mf.from_callable(module)(jnp.asarray(-1.0))) == pytest.approx(-0.9)
    assert module.weight.dtype == torch.float32
    assert module.weight.requires_grad


def test_a_module_that_works_in_place_changes_nothing():
    phi = mf.from_callable(torch.nn.ReLU(inplace=True))
    assert float(phi.second_moment(1.0)) == pytest.approx(0.5, rel=1e-12)
    assert float(phi.slope_moment(1.0, 2)) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("phi", "said"),
    [
        ("tahn", "tanh"),
        ("torch:Tahn", "torch:Tanh"),
        ("torch:Linear", "in_features"),
        ("nothing.py:phi", "no Python file"),
        (3.0, "3.0 is not legal; it must be an Activation"),
        (None, "None is not legal"),
        (torch.nn.Softmax(dim=-1), "elementwise"),
        (torch.nn.LayerNorm(3), "not legal"),
    ],
    ids=str,
)
def test_what_is_no_activation_is_told(phi, said):
    with pytest.raises(mf.MeanFieldError, match=said):
        mf.edge_of_chaos(phi, 0.3)


def test_parameters_go_with_a_name():
    assert named("leaky_relu", negative_slope=0.2).negative_slope == 0.2
    with pytest.raises(mf.MeanFieldError, match="takes no parameters"):
        named("torch:LeakyReLU", negative_slope=0.2)


def test_a_callable_in_a_users_jit():
    slope = jax.jit(jax.grad(lambda s: mf.edge_of_chaos(jnp.tanh, s).sigma_w))(0.3)
    exact = jax.grad(lambda s: mf.edge_of_chaos("tanh", s).sigma_w)(0.3)
    assert float(slope) == pytest.approx(float(exact), rel=1e-9)


def test_a_config_takes_what_is_pytorchs():
    from meanfield.sweep.config import ActivationSpec

    spec = ActivationSpec(name="torch:Mish")
    assert spec.version == f"PyTorch {torch.__version__}"
    assert spec.label == "torch:Mish"
    exact = mf.activation("mish").second_moment(1.0)
    assert float(spec.make().second_moment(1.0)) == pytest.approx(float(exact), rel=1e-11)


def test_annotated_numbers_of_a_class_are_its_parameters(monkeypatch):
    registry = mf.activations.activations
    monkeypatch.setattr(registry, "_items", dict(registry._items))

    @mf.register_activation("leaning", formula="x + a tanh(k x)", source="a test")
    class Leaning(mf.Activation):
        a: float = 0.25
        k: float = mf.parameter(1.0, "> 0", lambda value: value > 0)

        def __call__(self, x):
            return x + self.a * jnp.tanh(self.k * x)

    assert list(Leaning.parameters()) == ["a", "k"]
    assert Leaning.parameters()["a"][0] == 0.25
    assert float(named("leaning", a=0.0).second_moment(1.0)) == pytest.approx(1.0, rel=1e-12)
    with pytest.raises(mf.MeanFieldError, match=r"a = .*inf.* must be a finite number"):
        Leaning(a=np.inf)
    with pytest.raises(mf.MeanFieldError, match="must be > 0"):
        Leaning(k=-1.0)
    slope = jax.grad(lambda a: named("leaning", a=a).second_moment(1.0))(0.25)
    step = [float(named("leaning", a=0.25 + h).second_moment(1.0)) for h in (-1e-4, 1e-4)]
    assert float(slope) == pytest.approx((step[1] - step[0]) / 2e-4, rel=1e-7)


def test_a_class_that_is_not_registered_is_told():
    class Mine(mf.Activation):
        a: float = 0.25

        def __call__(self, x):
            return self.a * x

    with pytest.raises(mf.MeanFieldError, match=r"@mf.register_activation.* above class Mine"):
        mf.edge_of_chaos(Mine(), 0.1)
