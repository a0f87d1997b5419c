"""What is said of an activation: against reference values, on the page and as JSON.

Reference numbers are mpmath's, of 25 digits and more. The search for the edge takes most of the
time; where a test does not ask for it, it is left out (`sketch`).
"""

import dataclasses
import functools
import json
import math
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import meanfield as mf
from meanfield import cli, description
from meanfield.errors import MeanFieldError, Status

runner = CliRunner()

PARTS = [
    "name",
    "formula",
    "source",
    "parameters",
    "smoothness_class",
    "shape",
    "relu_distance",
    "statistics",
    "response",
    "initialisation",
    "edge",
    "verdict",
    "remarks",
    "corrections",
    "infinite",
]


@functools.cache
def facts(name):
    return mf.describe(mf.activation(name))


def sketch(phi, **inputs):
    """Describe an activation (or a name) but for its edge of chaos."""
    nothing = mf.Verdict("none", *[math.nan] * 3, False, "not asked", False, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(description, "classify", lambda _: nothing)
        patch.setattr(description, "_edge", lambda _: ())
        return mf.describe(mf.activation(phi) if isinstance(phi, str) else phi, **inputs)


def statistics(phi):
    return description._statistics(phi, description._turns(phi))


def said(record):
    return "\n".join(record.remarks)


# E φ, E φ², E φ'², E φ'⁴ at q = 1.
MOMENTS = {
    "tanh": (0.0, 0.394294490397841174, 0.464402902448268241, 0.341509207316663539),
    "sigmoid": (0.5, 0.293379035858092962, 0.044836241350194371, 0.002285651286678948),
    "swish": (
        0.206620964141907037,
        0.355775519817352156,
        0.379482351632829309,
        0.286580576879614813,
    ),
    "elu": (0.160520572266556049, 0.644945417492923863, 0.668102001223170606, 0.594410641301968936),
    "selu": (0.0, 1.0, 1.071574992455799257, 1.511352902387468688),
    "mish": (
        0.240403888374791443,
        0.452342192375882770,
        0.479083758373969774,
        0.421736381746668647,
    ),
    "srelu": (
        0.437486602940764723,
        0.512017732109027721,
        0.403858143127778224,
        0.326308754286238173,
    ),
    "shtanh": (0.0, 0.516058550961713300, 0.682689492137085897, 0.682689492137085897),
}
# E |φ'|; of an increasing φ it is E φ'.
STEEPNESS = {
    "tanh": 0.605705509602158825,
    "sigmoid": 0.206620964141907037,
    "swish": 0.511639406501548236,
    "elu": 0.761578291865123371,
    "selu": 0.985231116185796407,
    "mish": 0.579674760982139405,
    "srelu": 0.5,
    "shtanh": 0.682689492137085897,
}


@pytest.mark.parametrize("name", MOMENTS)
def test_moments(name):
    own = statistics(mf.activation(name))
    expected = (*MOMENTS[name], STEEPNESS[name])
    measured = (own.mean, own.second_moment, own.slope_moment_2, own.slope_moment_4)
    np.testing.assert_allclose((*measured, own.absolute_slope), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("gelu", 0.539324213507734581),
        ("sin", 0.694029376107642706),
        ("gaussian", 4 / (3 * math.sqrt(2 * math.pi))),
        ("abs", 1.0),
        ("ssaw", math.erf(math.sqrt(2))),
    ],
)
def test_absolute_slope_is_cut_where_the_slope_changes_sign(name, exact):
    assert statistics(mf.activation(name)).absolute_slope == pytest.approx(exact, rel=1e-13)


def test_a_slope_may_change_its_sign_often():
    phi = mf.scale(mf.activation("sin"), input=40.0)
    # |cos| averages to 2/π, up to e^-3200.
    assert statistics(phi).absolute_slope == pytest.approx(40 * 2 / math.pi, rel=1e-11)


def test_mean_curvature_has_its_dirac_masses():
    relu = statistics(mf.activation("relu"))
    assert relu.mean_curvature == pytest.approx(1 / math.sqrt(2 * math.pi), rel=1e-14)
    assert relu.kink_curvature == relu.mean_curvature
    assert relu.curvature_moment == math.inf
    leaky = statistics(mf.activation("leaky_relu", negative_slope=0.1))
    assert leaky.mean_curvature == pytest.approx(0.35904805236128941, rel=1e-13)
    assert statistics(mf.activation("shtanh")).mean_curvature == pytest.approx(0.0, abs=1e-15)
    smooth = statistics(mf.activation("srelu", delta=0.1))
    assert smooth.mean_curvature == pytest.approx(0.39854376516372735, rel=1e-12)
    assert smooth.kink_curvature == 0
    assert statistics(mf.activation("abs")).mean_curvature == pytest.approx(0.797884560802865356)


def test_dirac_masses_are_spoken_of_unless_they_cancel():
    assert "Dirac masses at kinks make 0.398942" in said(facts("relu"))
    assert "Dirac" not in said(sketch("shtanh"))


def test_gains_and_what_they_do():
    for name, gain, variance_slope in (
        ("gelu", 1.5335304412, 1.1440631969),
        ("swish", 1.6765324703, 1.1725940541),
        ("mish", 1.4868475813, 1.0763388164),
        ("elu", 1.2451983007, 0.8909679719),
        ("tanh", 1.5925374197, 0.4610708305),
    ):
        start = sketch(name).initialisation
        assert start.gain == pytest.approx(gain, abs=1e-10), name
        assert start.variance_slope == pytest.approx(variance_slope, abs=1e-10), name
        assert (start.variance_slope > 1) == ("length is unstable" in said(sketch(name))), name


def test_gains_of_leaky_relu_are_critical():
    for slope, gain in (
        (0.0, math.sqrt(2)),
        (0.01, 1.4141428569978354),
        (0.1, 1.4071950894605837),
        (0.2, 1.3867504905630728),
        (0.25, 1.3719886811400707),
    ):
        record = sketch(mf.activation("leaky_relu", negative_slope=slope))
        start = record.initialisation
        assert start.gain == pytest.approx(gain, rel=1e-14)
        assert start.torch_gain == pytest.approx(gain, rel=1e-14)
        assert start.chi == pytest.approx(1, rel=1e-14)
        assert start.variance_slope == pytest.approx(1, rel=1e-14)
        # The growth per layer without weights.
        assert record.statistics.slope_moment_2 == pytest.approx((1 + slope**2) / 2, rel=1e-14)
        assert "critical at every variance" in said(record)
        assert not any(c.claim.startswith("gain") for c in record.corrections)
        assert any("1.7059" in c.claim for c in record.corrections) == (slope == 0.01)


def test_relu_with_inputs_off_centre():
    relu = mf.activation("relu")
    at = sketch(relu, mean=0.5, variance=4.0).response
    assert at.output_mean == pytest.approx(1.072689396447160276, rel=1e-13)
    assert at.output_second_moment == pytest.approx(2.931170000955275035, rel=1e-13)
    assert 1 - at.inactive == pytest.approx(0.59870632568292372, rel=1e-14)
    assert sketch(relu, mean=-1.0).response.inactive == pytest.approx(0.841344746068542948)


def test_relu_in_blocks():
    record = facts("relu")
    # Batch norm hands φ inputs N(0, 1).
    assert record.response.inactive == 0.5
    assert "(what batch norm hands it) the fraction 0.5 is silenced" in said(record)
    # After the sum of a residual block φ stops half of the gradients; before it none.
    assert "with probability 0.5 per block" in said(record)
    assert (1 - record.response.saturated) ** 10 == 9.765625e-4
    assert 1 + record.initialisation.chi == pytest.approx(2, rel=1e-14)
    assert record.statistics.second_moment - record.statistics.mean**2 == pytest.approx(
        0.34084505690810466, rel=1e-14
    )


def test_steepness_of_a_unit():
    # The factors of a gradient through one unit: at most and on average.
    for name, largest in (("tanh", 1.0), ("sigmoid", 0.25)):
        record = sketch(name)
        assert record.shape.lipschitz == pytest.approx(largest, rel=1e-13)
        assert record.shape.lipschitz_at == pytest.approx(0, abs=1e-7)
        assert record.statistics.absolute_slope < largest
        assert "no σw solves" in said(record)


def test_distance_to_relu():
    for beta in (1.0, 2.0, 5.0, 10.0):
        record = sketch(mf.activation("softplus", beta=beta))
        assert record.relu_distance == pytest.approx(math.log(2) / beta, rel=1e-12)
    assert "sup |φ - relu| = 0.0693147" in said(record)
    assert sketch("srelu").relu_distance == pytest.approx(3 / 16, rel=1e-12)
    assert facts("relu").relu_distance == 0
    assert sketch("tanh").relu_distance == math.inf
    assert sketch("selu").relu_distance == math.inf


def test_minimum_of_swish():
    form = sketch("swish").shape
    assert form.minimum == pytest.approx(-0.27846454276107379511, rel=1e-13)
    assert form.minimum_at == pytest.approx(-1.2784645427610737951, rel=1e-7)
    assert form.lipschitz == pytest.approx(1.099839320128866917, rel=1e-12)


def test_published_lipschitz_constants():
    gelu = next(c for c in facts("gelu").corrections if "Lipschitz" in c.claim)
    assert (gelu.published, gelu.exact) == (1.084, pytest.approx(1.1289041451851547863, rel=1e-12))
    mish = next(c for c in sketch("mish").corrections if "Lipschitz" in c.claim)
    assert (mish.published, mish.exact) == (1.089, pytest.approx(1.0884981612517278612, rel=1e-12))
    assert round(mish.exact, 3) == 1.088
    assert not any("Lipschitz" in c.claim for c in sketch("swish").corrections)
    assert all(c.source for c in (gelu, mish))


def test_published_gains():
    found = {
        name: {c.source.split()[0]: c for c in sketch(name).corrections}
        for name in ("tanh", "selu", "relu6")
    }
    assert found["tanh"]["PyTorch"].published == pytest.approx(5 / 3)
    assert found["tanh"]["PyTorch"].exact == pytest.approx(1.5925374197, abs=1e-10)
    assert "stabler gradients" in found["selu"]["PyTorch"].fact
    assert found["selu"]["Klambauer"].exact == pytest.approx(1.071574992455799257, rel=1e-13)
    for name, exact in (("tanh", 1.5925374197), ("selu", 1.0), ("relu6", 1.7128585550)):
        record = found[name]["NFNet"]
        assert record.exact == pytest.approx(exact, abs=1e-9)
        assert 1e-4 < abs(record.published / record.exact - 1) < 2e-3
    assert "PyTorch" not in found["relu6"]


def test_edge_of_chaos_of_tanh():
    record = facts("tanh")
    start, at = record.edge[0], record.edge[1]
    assert [point.sigma_b for point in record.edge] == [0.0, 0.1, 0.3]
    assert (start.q, start.sigma_w, start.law) == (0.0, pytest.approx(1), "q ~ 0.5/l")
    assert at.q == pytest.approx(0.273300913458231291, rel=1e-12)
    assert at.sigma_w**2 == pytest.approx(1.42420529048859573, rel=1e-12)
    assert at.constant == pytest.approx(16.6392884839562783, rel=1e-11)
    assert (at.exponent, at.regime, at.chi, at.status) == (1.0, "SMOOTH", 1.0, "OK")
    assert record.verdict == mf.classify(mf.activation("tanh"))
    assert "repels" not in said(record)


def test_edge_of_chaos_that_is_one_point():
    record = facts("relu")
    assert [point.status for point in record.edge] == ["OK", "NO_SOLUTION", "NO_SOLUTION"]
    assert record.edge[0].constant == pytest.approx(9 * math.pi**2 / 2, rel=1e-12)
    absent = record.edge[1]
    assert math.isnan(absent.sigma_w)
    assert math.isnan(absent.chi)
    assert (absent.law, absent.message) == ("none", Status.NO_SOLUTION.message)


def test_edge_of_chaos_that_is_unstable():
    record = facts("gelu")
    assert record.edge[1].variance_slope > 1
    assert "On the edge at σb = 0.1 the length is unstable" in said(record)
    assert "starts at q = 0, which repels" in said(record)
    assert record.verdict.universality == "half-stable"
    assert not record.verdict.stable


def test_no_edge_of_chaos_is_said():
    record = facts("softplus")
    assert {point.status for point in record.edge} == {"NO_SOLUTION"}
    assert not record.verdict.edge
    claim = next(c for c in record.corrections if "edge of chaos" in c.claim)
    assert "it has no edge" in claim.fact
    assert "Hayou" in claim.claim


def infinite_and_plain(value, path=""):
    """Return the paths of values that are no plain JSON."""
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in infinite_and_plain(v, f"{path}.{k}")]
    if isinstance(value, list):
        return [p for i, v in enumerate(value) for p in infinite_and_plain(v, f"{path}.{i}")]
    legal = value is None or type(value) in (str, bool, int)
    return [] if legal or (type(value) is float and math.isfinite(value)) else [path]


@pytest.mark.parametrize("name", ["relu", "gelu", "softplus", "tanh"])
def test_json_is_plain_and_keeps_infinities(name):
    record = facts(name).as_dict()
    assert list(record) == PARTS
    assert infinite_and_plain(record) == []
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert list(record["statistics"]) == [
        f.name for f in dataclasses.fields(description.Statistics)
    ]
    for path, value in record["infinite"].items():
        place, missing = record, object()
        for key in path.split("."):
            place = place[int(key)] if isinstance(place, list) else place.get(key, missing)
        assert place is None, path
        assert value in ("inf", "-inf")
    assert ("shape.maximum" in record["infinite"]) == (name != "tanh")


def test_json_of_the_command():
    result = runner.invoke(cli.app, ["describe", "relu", "--mean", "-1", "--json"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert list(record) == PARTS
    assert record["shape"]["bounded"] is False
    assert record["shape"]["minimum_at"] == [None, 0.0]
    assert record["infinite"]["shape.minimum_at.0"] == "-inf"
    assert record["statistics"]["curvature_moment"] is None
    assert record["infinite"]["statistics.curvature_moment"] == "inf"
    assert record["edge"][1]["q"] is None
    assert "edge.1.q" not in record["infinite"]
    assert record["response"]["inactive"] == pytest.approx(0.841344746068542948, rel=1e-14)


STEP = """
import jax.numpy as jnp
import meanfield as mf
def step(x):
    return jnp.where(x > 0, 1.0, 0.0)
"""


def test_a_discontinuous_activation_from_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(STEP)
    result = runner.invoke(cli.app, ["describe", f"{file}:step", "--json"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["name"] == "step"
    assert record["smoothness_class"] == "discontinuous"
    assert record["shape"]["kinks"] == [{"at": 0.0, "jump": 1.0, "slope_jump": 0.0}]
    assert record["infinite"]["shape.lipschitz"] == "inf"
    assert record["statistics"]["absolute_slope"] == pytest.approx(1 / math.sqrt(2 * math.pi))
    assert record["infinite"]["initialisation.chi"] == "inf"
    assert {point["status"] for point in record["edge"]} == {"NO_SOLUTION"}
    assert record["verdict"]["why"] == "φ jumps, so that χ1 is infinite"
    assert not any("residual" in sentence for sentence in record["remarks"])


def page(*args):
    result = runner.invoke(cli.app, ["describe", *map(str, args)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.rstrip().splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 100
    return " ".join(result.stdout.split())


def test_page_of_gelu():
    text = page("gelu")
    for part in (
        "gelu x·Φ(x) Hendrycks and Gimpel 2016",
        "smoothness C^∞ jumps at nowhere",
        "Lipschitz constant 1.1289041 at 1.41421",
        "minimum -0.16997121 at -0.751792",
        "E φ² 0.42522148257",
        "gain 1/√(E φ²) 1.5335304412 PyTorch's gain has none",
        "0.1 0.183483193 1.72707828 1.09793217 1 - c ~ 7.632701721/l",
        "half-stable: V'(q) = 1 at K* = 3.56155281",
        "Published: Lipschitz constant 1.084",
    ):
        assert part in text, part


def test_page_of_a_kinked_activation():
    text = page("relu", "--mean", 0.5, "--variance", 4)
    assert "jumps at 0 (φ' +1)" in text
    assert "φ is monotone, convex, homogeneous" in text
    assert "Inputs N(0.5, 4)" in text
    assert "E φ 1.0726894" in text
    assert "E φ''² ∞" in text
    assert f"σb = 0.1, 0.3: {Status.NO_SOLUTION.message}" in text


def test_page_of_an_activation_with_parameters():
    text = page("softplus", "-p", "beta=2")
    assert "beta = 2" in text
    assert "sup |φ - relu| = 0.3465735903" in text
    assert "σb = 0, 0.1, 0.3: no such point" in text
    assert "no critical point: φ >= 0 and φ >= xφ'" in text


def test_page_words_for_rare_facts():
    from meanfield.cli import describe as command

    shape = mf.activations.shape(mf.activation("srelu"))
    module = sys.modules["meanfield.cli.describe"]
    assert callable(command)
    assert module._kinks(shape) == "-1, 1 (φ'' or later)"
    assert module._number(None) == module._number(math.nan) == "unknown"
    assert module._number(-math.inf) == "-∞"
    assert module._place(None) == ""


def test_smoothness_classes_in_words():
    words = [description._smoothness_class(k) for k in (-1.0, 0.0, 2.0, 4.0, math.inf)]
    assert words == ["discontinuous", "C^0", "C^2", "C^4 or smoother", "C^∞"]


def test_an_activation_that_vanishes_has_no_gain():
    start = sketch(0.0 * mf.activation("tanh")).initialisation
    assert start.gain == math.inf
    assert start.torch_gain is None


def test_mistakes_are_named(capsys, monkeypatch):
    with pytest.raises(MeanFieldError, match="must be an Activation"):
        mf.describe(3.0)  # pyright: ignore[reportArgumentType]
    monkeypatch.setenv("MEANFIELD_CACHE", "off")
    for args, message in (
        (("rleu",), "unknown activation 'rleu'; did you mean relu"),
        (("relu", "--variance", "0"), "variance = 0.0 is not legal"),
        (("relu", "--mean", "nan"), "mean = nan is not legal"),
        (("relu", "-p", "a=1"), "relu has no parameter 'a'"),
    ):
        monkeypatch.setattr(sys, "argv", ["meanfield", "describe", *args])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        assert exit_.value.code == 2
        text = capsys.readouterr().err
        assert message in text
        assert len(text.splitlines()) <= 2
