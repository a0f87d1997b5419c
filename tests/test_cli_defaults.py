"""What commands choose where nothing is given: one rule, for every activation with an edge."""

import json
import math

import pytest
from test_cli import fails, run

import meanfield as mf
from meanfield.activations import activations
from meanfield.cli.network import load_network
from meanfield.criticality import STEADY, critical_point
from meanfield.errors import MeanFieldError, Status
from meanfield.recommendation import own_network
from meanfield.shaping import width_of

WITHOUT_EDGE = {"softplus", "srelu"}
HANDFUL = ("relu", "tanh", "gelu", "sin", "hard_tanh", "abs")
SMALL = ("--depth", 2, "--width", 8, "--networks", 2)


@pytest.mark.parametrize("name", sorted(activations))
def test_every_activation_with_an_edge_has_a_network_of_its_own(name):
    phi = mf.activation(name)
    point = own_network(phi)
    assert (int(point.status) == Status.OK) == (name not in WITHOUT_EDGE)
    if name in WITHOUT_EDGE:
        with pytest.raises(MeanFieldError, match=r"--sigma-w must be given: there is no edge"):
            load_network(phi, None, None)
        return
    layer, q = load_network(phi, None, None)
    assert q > 0
    assert float(layer.moments(q).mean) == pytest.approx(1.0, rel=1e-9)
    assert float(layer.variance(q)) == pytest.approx(q, rel=1e-9)
    assert abs(float(layer.variance_slope(q))) <= 1 + STEADY


def test_the_scale_of_an_activation_is_the_variance_that_is_chosen():
    narrow = mf.from_callable(lambda x: mf.activation("tanh")(10 * x))
    point = own_network(narrow)
    assert float(point.q) == pytest.approx(width_of(narrow) ** 2)
    gelu = mf.activation("gelu")
    # At q = 1 variances are driven away; where they are not, the nearest one is taken.
    assert float(critical_point(gelu, 1.0).slope) > 1 + STEADY
    assert 3.5 < float(own_network(gelu).q) < 4.5


@pytest.mark.parametrize("name", HANDFUL)
@pytest.mark.parametrize(
    "command",
    [
        ("point",),
        ("edge",),
        ("spectrum", "--depth", 2),
        ("simulate", *SMALL),
        ("init", "--framework", "torch"),
    ],
)
def test_defaults_of_a_command_are_one_rule(command, name):
    first, *rest = command
    told = run(first, name, *rest, "--json")
    assert told.exit_code == 0, (told.output, told.exception)
    found = json.loads(told.stdout)
    layer, q = load_network(mf.activation(name), None, None)
    for key, value in (("sigma_w", layer.sigma_w), ("sigma_b", layer.sigma_b), ("q", q)):
        assert found[key] == pytest.approx(float(value), rel=1e-9), key


@pytest.mark.parametrize("command", ["point", "spectrum", "simulate", "init"])
def test_an_activation_without_an_edge_is_told(command, capsys):
    more = ("--framework", "torch") if command == "init" else ()
    said = fails(capsys, command, "srelu", *more)
    assert "--sigma-w must be given: there is no edge of chaos" in said


def test_biases_at_which_the_edge_has_no_variance_are_told(capsys):
    said = fails(capsys, "spectrum", "tanh", "--sigma-b", "0")
    assert "--sigma-b 0 needs --q or --sigma-w" in said


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("spectrum", "srelu", "--depth", 0), "depth = 0.0"),
        (("spectrum", "relu", "--sigma-w", 2, "--depth", 0), "depth = 0.0"),
        (("spectrum", "srelu", "--q", -1), "q = -1.0"),
        (("spectrum", "srelu", "--keep", 2), "keep = 2.0"),
        (("simulate", "srelu", "--networks", 1), "networks = 1"),
        (("simulate", "srelu", "--c", 2), "c = 2.0"),
        (("simulate", "relu", "--sigma-w", 2, "--seed", -1), "seed = -1"),
        (("simulate", "relu", "--sigma-w", 2, "--memory", "all"), "memory = 'all'"),
        (("point", "srelu", "--q0", 0), "q0 = 0.0"),
        (("recommend", "tahn"), "did you mean tanh"),
        (("recommend", "tanh", "--width", 0), "width = 0"),
        (("recommend", "tanh", "--sigma-b", -1), "sigma_b = -1.0"),
        (("recommend", "tanh", "--free", "b"), "free = 'b'"),
        (("init", "tahn"), "did you mean tanh"),
        (("init", "tanh", "--q", -1), "q = -1.0"),
        (("init", "tanh", "--depth", 0), "depth = 0"),
        (("init", "tanh", "--distribution", "x"), "unknown distribution"),
        (("export", "absent.zarr"), "does not exist"),
    ],
)
def test_values_given_are_judged_before_missing_ones(args, words, capsys):
    assert words in fails(capsys, *args)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("recommend", "tanh"), "--depth must be given"),
        (("init", "tanh"), "--framework must be given: one of torch"),
    ],
)
def test_what_is_missing_is_named_with_what_is_legal(args, words, capsys):
    assert words in fails(capsys, *args)


def test_point_begins_where_its_network_is_critical():
    record = json.loads(run("point", "gelu", "--json").stdout)
    assert record["q0"] == record["q"] or math.isclose(record["q0"], record["q"], rel_tol=1e-9)
    assert record["phase"] == "edge"
