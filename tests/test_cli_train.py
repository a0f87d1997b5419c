"""`meanfield train`: what it prints, draws and refuses."""

import json
import re

import numpy as np
import pytest
import xarray as xr
from test_cli import ends, fails

import meanfield as mf
from meanfield.cli.train import _summarise
from meanfield.errors import MeanFieldError, Status
from meanfield.shipped import config_names, shipped, training_names
from meanfield.sweep.config import FOLDER
from meanfield.training import TrainingSpec, load_training, run_training

CONFIG = """
activations = ["shtanh"]
on = "edge_of_chaos"
data = "digits"
depth = 2
width = 8
epochs = 2
learning_rate = {rate}
seeds = 1
figures = ["murray2021-7"]

[axes]
a = [1, 4]
bias_variance = [0.01, 1]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(CONFIG.format(rate=0.01))
    return tmp_path


def test_train_prints_what_became_of_it(folder, capsys):
    assert not ends("train", "own.toml")
    said = capsys.readouterr()
    assert "4 networks trained\n" in said.out
    assert re.search(r"best after 2 epochs: [\d.]+ % of the test set at a = \d", said.out)
    assert said.out.endswith("wrote results/own.zarr\n")
    assert "own: 4 networks, 2 epochs" in said.err
    assert "8 of 8 epochs" in said.err
    assert not ends("status", "results/own.zarr", "--json")
    assert json.loads(capsys.readouterr().out)["left"] == 0


def test_one_network_alone(folder, capsys):
    text = CONFIG.format(rate=0.01).replace("[1, 4]", "2").replace("[0.01, 1]", "0.1")
    (folder / "alone.toml").write_text(text)
    assert not ends("reproduce", "alone.toml")
    assert re.search(r"best after 2 epochs: [\d.]+ % of the test set\n", capsys.readouterr().out)
    assert (folder / "results" / "figures" / "murray2021-7.png").exists()


def test_what_partly_diverged_is_not_the_best(capsys):
    status = np.array([[1, 1], [1, 9]])
    accuracy = np.where(status == 1, [[0.5, 0.5], [0.9, 0.9]], np.nan)
    dims = ("a", "seed", "epoch")
    dataset = xr.Dataset(
        {"accuracy": (dims, accuracy[..., None]), "status": (dims, status[..., None])},
        coords={"a": [1.0, 2.0], "seed": [0, 1], "epoch": [3]},
    )
    _summarise(dataset)
    said = capsys.readouterr().out
    assert "3 networks trained" in said
    assert "1 network TRAINING_DIVERGES" in said
    assert "best after 3 epochs: 50.0 % of the test set at a = 1\n" in said


def test_an_activation_of_a_file_is_looked_for_beside_the_config(
    folder, tmp_path_factory, monkeypatch
):
    (folder / "mine.py").write_text(
        "import jax.numpy as jnp\n\ndef phi(x):\n    return jnp.tanh(x)\n"
    )
    text = CONFIG.format(rate=0.01).replace('"shtanh"', '"mine.py:phi"').replace("a = [1, 4]\n", "")
    (folder / "own.toml").write_text(text.replace('figures = ["murray2021-7"]', ""))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "mine.py").write_text("raise SystemExit('the wrong file is executed')\n")
    monkeypatch.chdir(elsewhere)
    assert not ends("train", folder / "own.toml")
    dataset = mf.open_results(elsewhere / "results" / "own.zarr")
    assert (dataset["status"] == Status.OK).all()
    point = mf.edge_of_chaos(mf.activation("tanh"), 0.1)
    assert float(dataset["q"][0]) == pytest.approx(float(point.q), rel=1e-10)


def test_train_tells_what_diverged(folder, capsys):
    (folder / "wild.toml").write_text(CONFIG.format(rate=1e5))
    assert not ends("train", "wild.toml")
    said = capsys.readouterr()
    assert "4 networks TRAINING_DIVERGES: the loss grew without bound in training" in said.out
    assert "the first at a = 1, bias_variance = 0.01, seed = 0" in said.out
    assert "best" not in said.out
    assert "4 diverged" in said.err


def test_reproduce_trains_and_draws(folder, capsys):
    assert not ends("reproduce", "own.toml")
    assert "wrote 1 figure to results/figures" in capsys.readouterr().out
    assert (folder / "results" / "figures" / "murray2021-7.png").stat().st_size > 10_000
    assert not ends("figure", "murray2021-7", "--data", "results/own.zarr", "--out", "drawn")
    assert (folder / "drawn" / "murray2021-7.pdf").exists()


def test_figure_trains_what_it_draws(folder, monkeypatch):
    from meanfield import cli

    monkeypatch.setattr(cli, "_run", lambda spec, out: run_training(tiny(spec.name), out))
    assert not ends("figure", "murray2021-7", "--out", "drawn")
    assert (folder / "results" / "train_digits.zarr").exists()


def test_a_figure_that_needs_more_is_told(folder, capsys):
    assert not ends("train", "own.toml")
    error = fails(capsys, "figure", "murray2021-8", "--data", "results/own.zarr")
    assert "shows a schedule, which the dataset lacks" in error
    needy = CONFIG.format(rate=0.1).replace("murray2021-7", "schoenholz2017-5")
    (folder / "needy.toml").write_text(needy)
    error = fails(capsys, "train", "needy.toml")
    assert "needy.toml: figure schoenholz2017-5 needs weight_variance, xi_c" in error
    error = fails(capsys, "figure", "schoenholz2017-5", "--data", "results/own.zarr")
    assert "shows weight_variance, xi_c, which the dataset lacks" in error


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train", "absent.toml"], "config absent.toml cannot be read"),
        (["train", "train_digit"], "did you mean train_digits"),
        (["train", "murray2021"], "murray2021.toml is a sweep; `meanfield sweep` runs it"),
        (["sweep", "train_digits"], "train_digits.toml is a training; `meanfield train` runs it"),
        (["sweep", "own.toml"], "own.toml is a training"),
        (["train", "own.toml", "--folder", "."], "digits needs no files"),
        (["train", "train_cifar10"], "folder is missing; it must hold the files of cifar10"),
        (["train", "train_cifar10", "--folder", "x"], "folder = 'x' is no directory"),
        (["train", "drawn.toml"], "drawn.toml: unknown figure 'murray-7'"),
        (["train", "drawn.toml", "--out", "own.toml"], "unknown figure"),
        (["train", "own.toml", "--out", "own.toml"], "cannot be written"),
    ],
)
def test_mistakes(folder, capsys, args, words):
    (folder / "drawn.toml").write_text(CONFIG.format(rate=0.1).replace("murray2021-7", "murray-7"))
    assert words in fails(capsys, *args)
    assert not list(folder.glob("results*"))


def tiny(name):
    """Return a shipped training of few and small networks."""
    spec = load_training(name)
    axes = {key: tuple(spec.values(key)[[0, -1]]) for key in spec.axes if not spec.is_fixed(key)}
    changes = {
        "axes": {**spec.model_dump()["axes"], **axes},
        "data": "digits",
        "width": 8,
        "depth": spec.depth if isinstance(spec.depth, int) else (1, 2),
        "epochs": 2,
        "seeds": 1,
        "schedule": {k: {"to": ramp.to, "epochs": 2} for k, ramp in spec.schedule.items()},
    }
    return TrainingSpec.model_validate(
        {**spec.model_dump(), **changes}, context={FOLDER: spec.folder}
    )


@pytest.mark.parametrize("name", training_names())
def test_shipped_trainings_run_and_are_drawn(name, tmp_path):
    spec = tiny(name)
    dataset = mf.open_results(run_training(spec, tmp_path))
    assert set(dataset["status"].values.ravel()) <= {Status.OK, Status.VANISHES}
    for figure in spec.figures:
        assert mf.plots.draw(figure, dataset).axes


def test_all_configs_are_sweeps_or_trainings():
    assert {*config_names(), *training_names()} == set(shipped())
    for name in training_names():
        with pytest.raises(MeanFieldError, match="is a training"):
            mf.load_config(name)


def test_the_list_says_which_is_which(capsys):
    assert not ends("list", "configs")
    said = capsys.readouterr().out
    assert re.search(r"train_digits +│ training", said)
    assert re.search(r"murray2021 +│ sweep", said)
