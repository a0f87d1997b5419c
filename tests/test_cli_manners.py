"""How the command line speaks: help, waiting, what names an activation, JSON."""

import json
import sys
import time
from typing import Any

import pytest
import typer
from test_cli import ends, fails, run

from meanfield import cli
from meanfield.activations import activations
from meanfield.cli.waiting import waiting

COMMAND: Any = typer.main.get_command(cli.app)
TAKES_ACTIVATION = (
    "point",
    "edge",
    "describe",
    "recommend",
    "init",
    "spectrum",
    "simulate",
    "phase",
)
# Phrases with no verb, or whose "that" and "so" point elsewhere.
RIDDLES = ("That of", "so often", "nothing else is", "Of the ", "Of a ", "these change", "as many")


def test_without_arguments_help_is_printed(capsys):
    assert ends() == 2
    said = capsys.readouterr()
    assert "Usage: meanfield" in said.out
    assert "recommend" in said.out
    assert said.err == ""


@pytest.mark.parametrize("name", sorted(COMMAND.commands))
def test_no_command_ends_in_a_traceback_without_arguments(name, capsys):
    assert "must be given" in (said := fails(capsys, name)) or "Missing argument" in said


@pytest.mark.parametrize("name", TAKES_ACTIVATION)
def test_an_activation_is_named_by_its_place_or_an_option(name, capsys):
    said = fails(capsys, name)
    assert "ACTIVATION must be given: a name from `meanfield list activations`" in said
    said = fails(capsys, name, "tanh", "-a", "relu")
    assert "ACTIVATION tanh and --activation relu differ" in said
    for named in (("tahn",), ("-a", "tahn"), ("--activation", "tahn"), ("tahn", "-a", "tahn")):
        more = ("--depth", "3") if name == "recommend" else ()
        assert "did you mean tanh" in fails(capsys, name, *named, *more)


@pytest.mark.parametrize("name", sorted(COMMAND.commands))
def test_help_is_plain(name):
    command = COMMAND.commands[name]
    for one in command.params:
        if one.name == "help":
            continue
        text = getattr(one, "help", "") or ""
        assert text.endswith("."), (one.name, text)
        assert len(text.split()) >= 3, (one.name, text)
        assert not any(riddle in text for riddle in RIDDLES), (one.name, text)


@pytest.mark.parametrize("kind", cli.KINDS)
def test_lists_are_printed_as_json(kind):
    found = json.loads(run("list", kind, "--json").stdout)
    assert list(found) == [kind]
    assert all(one["name"] for one in found[kind])
    if kind == "activations":
        assert len(found[kind]) == len(activations)
        shtanh = next(one for one in found[kind] if one["name"].startswith("shtanh"))
        assert isinstance(shtanh["parameters"], list)


def test_code_is_printed_as_json():
    args = ("init", "tanh", "--framework", "jax", "--sigma-b", "0.3")
    found = json.loads(run(*args, "--json").stdout)
    assert run(*args).stdout.endswith(found["code"] + "\n")
    assert found["first"] == pytest.approx((found["q"] - 0.09) ** 0.5)


def test_who_waits_at_a_terminal_is_told_what_for(capsys, monkeypatch):
    with waiting("looking for cures"):
        time.sleep(0.9)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with waiting("looking for cures"):
        time.sleep(0.9)
    assert capsys.readouterr().err == "looking for cures ...\n"
    with waiting("looking for cures"):
        pass
    time.sleep(0.8)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["recommend", "spectrum", "point", "figure", "simulate", "sweep"])
def test_what_may_take_long_says_so(name, capsys, monkeypatch):
    """Without patience every command speaks, before it finds what is wrong."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.modules["meanfield.cli.waiting"], "PATIENCE", 0.0)
    said = fails(capsys, name, "tahn")
    assert said.splitlines()[0].endswith(" ...")


def test_what_was_recommended_can_be_passed_on():
    told = json.loads(run("recommend", "tanh", "--depth", 10, "--json").stdout)
    program, *args = told["next"].split()
    assert program == "meanfield"
    found = json.loads(run(*args, "--json").stdout)
    for key in ("sigma_w", "sigma_b", "q", "depth"):
        assert found[key] == pytest.approx(told["best"][key], rel=1e-10)
    assert found["distribution"] == told["best"]["ensemble"]
    # The depth alone gives the same network.
    alone = ("init", "tanh", "--framework", "torch", "--depth", 10, "--json")
    again = json.loads(run(*alone).stdout)
    assert again["sigma_w"] == pytest.approx(told["best"]["sigma_w"], rel=1e-10)
    page = run("recommend", "tanh", "--depth", 10).stdout
    assert page.rstrip().endswith(told["next"])


def test_a_verdict_names_its_criterion_and_the_number():
    page = run("recommend", "relu", "--depth", 100).stdout
    assert (
        "relu, 100 layers: trains slowly: inputs merge (correlation 0 becomes 0.9964 > 0.9)" in page
    )
    assert "so that few of them take most of a step" in page
    assert (
        "next: meanfield init leaky_relu --framework torch --depth 100 -p negative_slope=" in page
    )
    assert "can not be trained" not in page


def test_code_runs_in_any_folder(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "mine.py").write_text("def phi(x):\n    return x / (1 + x * x) ** 0.5\n")
    monkeypatch.chdir(tmp_path)
    code = run("init", "mine.py:phi", "--framework", "torch", "--depth", 2).stdout
    assert str(tmp_path / "mine.py") in code
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path / "there")
    exec(compile(code, "snippet", "exec"), {})


def test_the_first_layer_brings_inputs_to_the_variance():
    torch = pytest.importorskip("torch")
    numbers = ("--sigma-w", 1.5, "--sigma-b", 0.1, "--q", 4.0, "--second-moment", 0.5)
    code = run("init", "tanh", "--framework", "torch", "--depth", 3, *numbers).stdout
    names = {}
    exec(compile(code, "snippet", "exec"), names)
    first, second, _ = names["model"]
    x = torch.randn(784)
    x *= (0.5 * 784) ** 0.5 / x.norm()
    assert float((first(x).detach() ** 2).mean()) == pytest.approx(4.0, rel=0.5)
    assert float(second.weight.detach().std()) * 300**0.5 == pytest.approx(1.5, rel=0.05)


def test_a_cure_without_a_name_is_to_be_put_into_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import jax.numpy as jnp\ndef phi(x):\n    return x * jnp.tanh(x)\n"
    )
    told = run("recommend", f"{tmp_path}/mine.py:phi", "--depth", 30, "--json")
    assert json.loads(told.stdout)["next"].endswith("meanfield recommend FILE.py:NAME --depth 30")
