"""What cannot be traced says so in one line, not in a tracer's own words."""

import jax
import jax.numpy as jnp
import pytest

import meanfield as mf


def leaky(slope):
    return mf.activation("leaky_relu", negative_slope=slope)


def layer(sigma_w):
    return mf.Dense(mf.activation("tanh"), sigma_w, 0.3)


REFUSED = {
    "fixed_points": lambda x: mf.fixed_points(layer(x)).q[0],
    "edge_branches": lambda x: mf.edge_branches("tanh", x).q[0],
    "edge_curve": lambda x: mf.edge_curve("tanh", x * jnp.ones(2)).curve.q[0],
    "classify": lambda x: mf.classify(leaky(x)).q,
    "universality_class": lambda x: x * mf.universality_class(leaky(x)),
    "is_scaled_bounded": lambda x: x * bool(mf.is_scaled_bounded(leaky(x))),
    "describe": lambda x: mf.describe(leaky(x)).initialisation.gain,
    "assess": lambda x: mf.assess(layer(x), 5, 1.0).gradient,
    "design": lambda x: mf.design("shtanh", x, {"moment_ratio": 2.0}, free=["a"]).point.q,
    "dks": lambda x: mf.dks(leaky(x), 5).local,
    "tat": lambda x: mf.tat(leaky(x), 5).local,
    "phase_diagram": lambda x: mf.phase_diagram("tanh", x * jnp.ones(2), 0.1).chi.values[0, 0],
    "tabulate": lambda x: mf.tabulate(leaky(x), ["moments"]).second_moment(1.0),
    "simulate": lambda x: mf.simulate(layer(x), [9, 9], q=1.0).samples["c"].mean(),
}


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, lambda f: jax.vmap(f)])
@pytest.mark.parametrize("name", REFUSED)
def test_a_traced_number_is_refused_by_name(name, transform):
    x = jnp.ones(2) if transform not in (jax.jit, jax.grad) else 1.3
    with pytest.raises(mf.MeanFieldError, match=rf"^{name} cannot be traced"):
        transform(REFUSED[name])(x)


def test_the_derivative_of_a_spectrum_is_refused():
    for read in (
        lambda w: mf.jacobian_spectrum(layer(w), 1.0, 3.0).s_max,
        lambda w: mf.largest_singular_value(layer(w), 1.0, 3.0),
    ):
        assert jnp.isfinite(jax.jit(read)(1.3))
        with pytest.raises(mf.MeanFieldError, match="cannot be differentiated"):
            jax.grad(read)(1.3)


def test_a_closure_over_a_traced_number_is_told_to_make_it_a_parameter():
    for ask in (
        lambda k: mf.from_callable(lambda x: jnp.tanh(k * x)).mean(1.0),
        lambda k: mf.edge_of_chaos(lambda x: jnp.tanh(k * x), 0.3).sigma_w,
        lambda k: mf.steady_state(mf.Dense(lambda x: jnp.tanh(k * x), 1.3, 0.3)).q,
    ):
        for transform in (jax.grad, jax.jit):
            with pytest.raises(mf.MeanFieldError, match="make them parameters"):
                transform(ask)(1.0)


@pytest.mark.parametrize("name", sorted(set(REFUSED) - {"tabulate"}))
def test_known_numbers_are_refused_inside_jit(name):
    """JAX stages there even what is made of known numbers."""
    with pytest.raises(mf.MeanFieldError, match=rf"^{name} cannot be traced"):
        jax.jit(lambda x: x * REFUSED[name](1.3))(1.0)


def test_a_table_of_known_numbers_is_made_inside_jit():
    tanh = mf.activation("tanh")
    moment = jax.jit(lambda q: mf.tabulate(tanh, ["moments"]).second_moment(q))
    assert moment(1.0) == pytest.approx(float(tanh.second_moment(1.0)), rel=1e-12)
