"""The command `meanfield simulate`: what it prints, draws and refuses."""

import json
import math

import pytest
from typer.testing import CliRunner

import meanfield as mf
from meanfield import cli
from meanfield.cli.simulate import SYMBOLS

runner = CliRunner()
SMALL = ("--depth", 2, "--width", 6, "--networks", 3)


def run(*args):
    return runner.invoke(cli.app, ["simulate", *map(str, args)], catch_exceptions=True)


def record(*args):
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_json_is_the_comparison():
    found = record("tanh", "--sigma-w", 1.5, "--sigma-b", 0.3, "--seed", 4, *SMALL)
    layer = mf.Dense(mf.activation("tanh"), 1.5, 0.3)
    rows = mf.compare_with_theory(mf.simulate(layer, (6, 6, 6), networks=3, seed=4)).rows
    assert found["q"] == pytest.approx(float(mf.steady_state(layer).q), rel=1e-12)
    assert found["widths"] == [6, 6, 6]
    assert len(found["rows"]) == len(rows)
    for said, row in zip(found["rows"], rows, strict=True):
        assert (said["quantity"], said["layer"]) == (row.quantity, row.layer)
        assert said["mean"] == pytest.approx(row.mean, rel=1e-10)
        assert said["theory"] == pytest.approx(row.theory, rel=1e-12)
        assert (said["z"] is None) == math.isnan(row.z)


@pytest.mark.parametrize("keep", [1.0, 0.7])
def test_weights_are_critical_by_default(keep):
    found = record("tanh", "--sigma-b", 0.3, "--keep", keep, *SMALL)
    layer = mf.Dense(mf.activation("tanh"), found["sigma_w"], 0.3, keep=keep)
    assert float(mf.steady_state(layer).chi) == pytest.approx(1.0, rel=1e-10)
    m1 = [row["theory"] for row in found["rows"] if row["quantity"] == "m1"]
    assert m1 == pytest.approx([1.0] * 3, rel=1e-9)


def test_everything_can_be_chosen():
    options = ("--widths", "5,7,4", "--ensemble", "orthogonal", "--q", 2, "--c", -0.5)
    found = record("swish", "-p", "beta=2", "--sigma-w", 1, *options, "--networks", 3, "--seed", 1)
    chosen = {"beta": 2.0, "ensemble": "orthogonal", "widths": [5, 7, 4], "q": 2.0, "c": -0.5}
    assert {name: found[name] for name in chosen} == chosen
    assert not [row for row in found["rows"] if row["quantity"] == "m2"]


def test_results_do_not_depend_on_the_memory():
    args = ("tanh", "--sigma-w", 1.5, "--depth", 2, "--width", 10, "--networks", 4)
    whole, parts = record(*args), record(*args, "--memory", "20kB")
    for one, other in zip(whole["rows"], parts["rows"], strict=True):
        assert one["mean"] == pytest.approx(other["mean"], rel=1e-10)


def test_a_table_is_printed_and_progress_is_reported():
    result = run("tanh", "--sigma-b", 0.3, *SMALL)
    assert result.exit_code == 0
    for text in (*SYMBOLS.values(), "theory", "given", "largest |z|", "3 of 6"):
        assert text in result.stdout
    assert "tanh: random networks: 3 of 3 networks" in result.stderr


def test_a_figure_is_drawn(tmp_path):
    place = tmp_path / "networks.png"
    found = record("tanh", "--sigma-b", 0.3, *SMALL, "--plot", place)
    assert found["plot"] == str(place)
    assert place.read_bytes().startswith(b"\x89PNG")
    # A mistake leaves a drawing that is there as it is.
    run("tanh", "--sigma-w", 1.5, "--q", 0, "--plot", place)
    assert place.read_bytes().startswith(b"\x89PNG")


def test_mistakes_are_one_line_and_write_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEANFIELD_CACHE", "off")
    cases = [
        (("tahn",), "unknown activation 'tahn'; did you mean tanh"),
        (("tanh", "--depth", 0), "--depth 0 --width 400 is not legal"),
        (("tanh", "--width", 0), "--width 0 is not legal"),
        (("tanh", "--widths", "3,x"), "--widths '3,x' is not legal"),
        (("tanh", "--widths", "3,4", "--depth", 2), "--depth and --width"),
        (("tanh", "--widths", "3"), "--widths '3' is not legal"),
        (("tanh", "--ensemble", "unitary"), "ensemble = 'unitary' is not legal"),
        (("tanh", "--keep", 0), "keep = 0.0 is not legal"),
        (("tanh", "--sigma-b", -1), "sigma_b = -1.0 is not legal"),
        (("tanh", "--sigma-w", -1), "sigma_w = -1.0 is not legal"),
        (("softplus", "--sigma-b", 0.1), "--sigma-w must be given"),
        (("relu", "--sigma-w", 2), "q must be given"),
        (("tanh", "--sigma-w", 2, "--q", 0), "q = 0.0 is not legal"),
        (("tanh", "--sigma-w", 2, "--c", 2), "c = 2.0 is not legal"),
        (("tanh", "--sigma-w", 2, "--networks", 1), "networks = 1 is not legal"),
        (("tanh", "--sigma-w", 2, "--seed", -1), "seed = -1 is not legal"),
        (("tanh", "--sigma-w", 2, "--memory", "all"), "memory = 'all' is not legal"),
        (("tanh", "--sigma-w", 2, "--memory", "1MB"), "it takes"),
        (("tanh", "--plot", "x.gif"), "x.gif is not legal"),
        (("tanh", "--plot", "nowhere/x.png"), "no directory nowhere"),
        (("tanh", "--plot", "/proc/x.png"), "/proc/x.png cannot be written"),
    ]
    for args, message in cases:
        plot = () if "--plot" in args else ("--plot", "x.png")
        monkeypatch.setattr("sys.argv", ["meanfield", "simulate", *map(str, (*args, *plot))])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        said = capsys.readouterr()
        assert exit_.value.code == 2, args
        assert message in said.err, (args, said.err)
        assert len(said.err.splitlines()) == 1, said.err
        assert not said.out
    assert not list(tmp_path.iterdir())
