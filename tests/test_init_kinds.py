"""Equinox, Keras and Flax: models that the initialisers are not for are refused by name."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield.errors import MeanFieldError, MeanFieldWarning

EDGE = {"activation": "tanh", "sigma_b": 0.3}
KEY = jax.random.key(0)


class Equinox:
    def __init__(self):
        self.nn = pytest.importorskip("equinox").nn

    def linear(self, bias=True):
        return self.nn.Linear(4, 4, use_bias=bias, key=KEY)

    def norm(self):
        return self.nn.LayerNorm(4)

    def dropout(self):
        return self.nn.Dropout(0.1)

    def phi(self, name):
        return self.nn.Lambda({"tanh": jnp.tanh, "relu": jax.nn.relu}[name])

    def chain(self, *parts):
        return self.nn.Sequential(parts)

    def init(self, model, **settings):
        from meanfield.integrations.equinox import init

        return init(model, KEY, **{**EDGE, **settings})

    def weights(self, model):
        return [(np.asarray(model[n].weight).T, np.asarray(model[n].bias)) for n in (0, 2)]


class Flax:
    def __init__(self):
        self.nnx = pytest.importorskip("flax.nnx")
        self.rngs = self.nnx.Rngs(0)

    def linear(self, bias=True):
        return self.nnx.Linear(4, 4, use_bias=bias, rngs=self.rngs)

    def norm(self):
        return self.nnx.RMSNorm(4, rngs=self.rngs)

    def dropout(self):
        return self.nnx.Dropout(0.1, rngs=self.rngs)

    def phi(self, name):
        return getattr(self.nnx, name)

    def chain(self, *parts):
        return self.nnx.Sequential(*parts)

    def init(self, model, **settings):
        from meanfield.integrations.flax import init_

        return init_(model, KEY, **{**EDGE, **settings})

    def weights(self, model):
        layers = model.layers[0], model.layers[2]
        return [(np.asarray(one.kernel[...]), np.asarray(one.bias[...])) for one in layers]


class Keras:
    def __init__(self):
        self.keras = pytest.importorskip("keras")

    def linear(self, bias=True):
        return self.keras.layers.Dense(4, use_bias=bias)

    def norm(self):
        return self.keras.layers.BatchNormalization()

    def dropout(self):
        return self.keras.layers.Dropout(0.1)

    def phi(self, name):
        return self.keras.layers.Activation(name)

    def chain(self, *parts):
        return self.keras.Sequential([self.keras.Input((4,)), *parts])

    def init(self, model, **settings):
        from meanfield.integrations.keras import init_

        return init_(model, **{**EDGE, **settings})

    def weights(self, model):
        layers = model.layers[0], model.layers[2]
        return [(np.asarray(one.kernel), np.asarray(one.bias)) for one in layers]


@pytest.fixture(params=[Equinox, Flax, Keras])
def own(request):
    return request.param()


def refused(own, model, *words):
    with pytest.raises(MeanFieldError, match=r"^model is not legal") as told:
        own.init(model)
    for word in words:
        assert word in str(told.value)


def test_normalisation_is_refused_by_name(own):
    norm = own.norm()
    model = own.chain(own.linear(), norm, own.phi("tanh"), own.linear())
    refused(own, model, f"({type(norm).__name__}): it normalises")


def test_layers_without_bias_are_refused_where_the_edge_needs_biases(own):
    model = own.chain(own.linear(), own.phi("tanh"), own.linear(bias=False))
    refused(own, model, "no bias while sigma_b > 0")
    own.init(model, activation=jnp.tanh, sigma_b=0.0, sigma_w=1.2)


def test_another_activation_is_refused(own):
    refused(own, own.chain(own.linear(), own.phi("relu"), own.linear()), "value at -0.2 is 0")


def test_the_output_may_have_its_own_activation(own):
    own.init(own.chain(own.linear(), own.phi("tanh"), own.linear(), own.phi("relu")))


def test_dropout_and_missing_activations_are_warned_of(own):
    parts = own.linear(), own.phi("tanh"), own.dropout(), own.linear()
    with pytest.warns(MeanFieldWarning, match=r"\(Dropout\): it drops units"):
        own.init(own.chain(*parts))
    with pytest.warns(MeanFieldWarning, match="no activation before it") as told:
        own.init(own.chain(own.linear(), own.linear()))
    assert told[0].filename == __file__


def test_a_dry_run_lists_what_the_layers_then_get(own):
    model = own.chain(own.linear(), own.phi("tanh"), own.linear())
    before = own.weights(model)
    plan = own.init(model, dry_run=True)
    for old, new in zip(before, own.weights(model), strict=True):
        np.testing.assert_array_equal(old[0], new[0])
        np.testing.assert_array_equal(old[1], new[1])
    edge = mf.edge_of_chaos(mf.activation("tanh"), 0.3)
    assert [(one.shape, one.fan_in, one.role) for one in plan] == [
        ((4, 4), 4, "input"),
        ((4, 4), 4, "output"),
    ]
    assert [one.sigma_b for one in plan] == [0.3, 0.3]
    assert plan[1].sigma_w == float(edge.sigma_w)
    assert plan[0].sigma_w == pytest.approx(float(np.sqrt(edge.q - 0.09)))
    changed = own.init(model, distribution="orthogonal")
    for one, (kernel, bias) in zip(plan, own.weights(changed), strict=True):
        np.testing.assert_allclose(kernel.T @ kernel, one.sigma_w**2 * np.eye(4), atol=1e-5)
        assert np.abs(bias).min() > 0


def test_keras_graphs_that_are_no_chain_are_refused():
    keras = Keras().keras
    begin = keras.Input((4,))
    one = keras.layers.Dense(4, activation="tanh", name="one")
    two = keras.layers.Dense(4, name="two")
    residual = keras.Model(begin, two(keras.layers.Add(name="sum")([begin, one(begin)])))
    refused(Keras(), residual, "sum (Add): it joins two paths")
    refused(Keras(), keras.Model(begin, one(one(begin))), "one (Dense): it is used more than once")
    other = keras.layers.Dense(4, activation="relu", name="other")
    refused(Keras(), keras.Model(begin, two(other(begin))), "other.activation (function)")
    unbuilt = keras.Sequential([keras.layers.Dense(4)])
    refused(Keras(), unbuilt, "run it once")


def test_equinox_perceptrons_are_looked_into():
    own = Equinox()
    refused(own, own.nn.MLP(4, 4, 4, 2, key=KEY), "activation (custom_jvp)")
    model = own.nn.MLP(4, 4, 4, 2, activation=jnp.tanh, final_activation=jax.nn.relu, key=KEY)
    assert [one.name for one in own.init(model, dry_run=True)] == [f"layers.{n}" for n in range(3)]
    refused(own, own.nn.MultiheadAttention(2, 4, key=KEY), "model (MultiheadAttention)")
    refused(own, [own.linear(), own.nn.GRUCell(4, 4, key=KEY)], "1 (GRUCell): it is recurrent")


def test_flax_layers_under_two_names_are_refused():
    own = Flax()
    layer = own.linear()
    refused(own, own.chain(layer, own.phi("tanh"), layer), "used more than once")


def test_code_of_a_users_own_class_is_trusted_aloud():
    own = Flax()

    class Model(own.nnx.Module):
        def __init__(self):
            self.one, self.act, self.two = own.linear(), own.phi("tanh"), own.linear()

    with pytest.warns(MeanFieldWarning, match=r"model \(Model\): its own code is not looked into"):
        own.init(Model())
