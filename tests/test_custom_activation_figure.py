"""Networks of one's own activation that begin as PyTorch draws them, on the edge, or shaped."""

import dataclasses
import itertools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from test_cli import ends, fails
from test_sweep import digest

import meanfield as mf
from meanfield import plots
from meanfield.cli import completion
from meanfield.errors import MeanFieldError, Status
from meanfield.recommendation import CURVATURE, chosen_network
from meanfield.shipped import config_directory, config_names, training_names
from meanfield.studies import checks
from meanfield.studies.initialisations import better_than_default
from meanfield.sweep.store import Store
from meanfield.training import checkpoint, engine, load_training, run_training
from meanfield.training.data import load_images
from meanfield.training.descent import cross_entropy, gradients
from meanfield.training.grid import TrainingGrid
from meanfield.training.network import PRECISION, Scales, draw
from meanfield.training.spec import training_of
from meanfield.training.starts import INPUTS

NAME = "custom-activation"
KINDS = ["torch", "edge_of_chaos", "shaped"]
TABLE = {
    "activations": ["tanh"],
    "initialisation": KINDS,
    "data": "digits",
    "depth": 3,
    "width": 12,
    "epochs": 2,
    "learning_rate": 0.01,
    "seeds": 2,
    "gradients": True,
}


def custom_activation() -> xr.Dataset:
    epoch, layer = np.arange(4), np.arange(1, 6)
    accuracy = np.array([0.0, 0.2, 0.25])[:, None, None] * epoch + np.zeros((3, 2, 1)) + 0.1
    gradient = np.array([0.1, 1.0, 1.0])[:, None, None] ** (5 - layer) * np.ones((3, 2, 1))
    return xr.Dataset(
        {
            "accuracy": (("initialisation", "seed", "epoch"), accuracy),
            "gradient": (("initialisation", "seed", "layer"), gradient),
        },
        coords={
            "initialisation": KINDS,
            "epoch": epoch,
            "layer": layer,
            "chi": ("initialisation", np.array([0.01, 1.0, 1.0])),
        },
    )


# As `tests/test_figures.py` wants them of every figure.
DATASETS = {NAME: custom_activation}
LINES = {NAME: [3, 6]}
CURVES = {NAME: []}


def spec(**changes):
    return training_of(TABLE | changes, "small")


@pytest.fixture(scope="module")
def batches():
    return engine.places_of(load_images("digits"))[0]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A training that nobody disturbed, and its digest."""
    path = run_training(spec(), tmp_path_factory.mktemp("small"))
    return mf.open_results(path), digest(path)


def test_pytorch_draws_uniformly_within_one_over_the_root_of_the_inputs():
    """Weights and biases, of the first layer and of the last one too."""
    many = Scales(*(jnp.full(20, x, PRECISION) for x in (3**-0.5, jnp.nan, 1.0)))
    found = draw(jnp.arange(20), many, 64, 16, 3, 10, "torch")
    for drawn, inputs in (
        (found.first, 64),
        (found.hidden, 16),
        (found.last, 16),
        (found.biases[:, 0], 64),
        (found.biases[:, 1:], 16),
        (found.last_biases, 16),
    ):
        values = np.asarray(drawn, float).ravel() * np.sqrt(inputs)
        assert np.abs(values).max() <= 1 + 1e-6
        assert np.abs(values).max() > 0.97
        # The variance of v² is 4/45.
        assert abs(np.mean(values**2) - 1 / 3) < 4 * np.sqrt(4 / 45 / values.size)


def test_pytorch_itself_draws_so():
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(64, 500)
    for drawn in (layer.weight, layer.bias):
        values = drawn.detach().numpy() * 8
        assert 0.97 < np.abs(values).max() <= 1


def test_gradients_are_those_of_each_image_alone(batches):
    phi, size = mf.activation("tanh"), 100
    scales = Scales(*(jnp.full(1, x, PRECISION) for x in (1.3, 0.2, 0.7)))
    networks = draw(jnp.arange(1), scales, 64, 12, 4, 10, "gaussian")
    found = gradients(phi, networks, scales.inputs, batches, size)
    network = jax.tree.map(lambda leaf: leaf[0], networks)

    def felt(image, label):
        def loss(biases):
            own = dataclasses.replace(network, biases=biases)
            return cross_entropy(phi, own, scales.inputs[0], image[None], label[None])

        return jnp.sum(jax.grad(loss)(network.biases) ** 2, axis=1)

    whole = len(batches.train_labels) // size * size
    alone = jax.vmap(felt)(batches.train_inputs[:whole], batches.train_labels[:whole])
    np.testing.assert_allclose(found[0], np.sqrt(np.mean(alone, axis=0)), rtol=1e-5)


def test_gradients_fall_as_chi_says(batches):
    """In the mean over 10 networks 300 units wide, whose squares vary by a few per cent."""
    phi = mf.activation("tanh")
    state = mf.check(mf.steady_state(mf.Dense(phi, 0.8, 0.3)))
    scale = np.sqrt(float(state.q) - 0.09) / 0.8
    scales = Scales(*(jnp.full(10, x, PRECISION) for x in (0.8, 0.3, scale)))
    networks = draw(jnp.arange(10), scales, 64, 300, 6, 10, "gaussian")
    squares = np.asarray(gradients(phi, networks, scales.inputs, batches, 64)) ** 2
    ratio = squares.mean(axis=0) / squares.mean(axis=0)[-1]
    np.testing.assert_allclose(ratio, float(state.chi) ** np.arange(5, -1, -1.0), rtol=0.1)


def test_networks_begin_where_their_names_say():
    phi = mf.activation("tanh")
    known = TrainingGrid(spec(depth=20)).known[0]
    point = chosen_network(phi, 20, None)
    wanted_w = [3**-0.5, float(point.sigma_w), 1.0]
    np.testing.assert_allclose(known["sigma_w"], wanted_w, rtol=1e-12)
    np.testing.assert_allclose(known["sigma_b"], [36**-0.5, float(point.sigma_b), 0], rtol=1e-12)
    state = mf.steady_state(mf.Dense(phi, 3**-0.5, 36**-0.5))
    np.testing.assert_allclose(known["q"], [float(state.q), float(point.q), 1.0], rtol=1e-10)
    np.testing.assert_allclose(known["chi"], [float(state.chi), 1, 1], rtol=1e-9)
    # PyTorch does not scale inputs; the others begin at their fixed points.
    np.testing.assert_allclose(known[INPUTS][[0, 2]], 1.0, rtol=1e-9)
    critical = known["sigma_w"][1] ** 2 * known[INPUTS][1] ** 2 + known["sigma_b"][1] ** 2
    assert critical == pytest.approx(float(point.q), rel=1e-12)


def test_what_is_shaped_is_the_cure_of_recommend():
    phi = mf.activation("gelu")
    grid = TrainingGrid(spec(activations=["gelu"], depth=30, initialisation="shaped"))
    shaped = grid.activation(grid.networks[-1], 0)
    wanted = mf.tat(phi, 30, curvature=CURVATURE).activation
    x = jnp.linspace(-3, 3, 7)
    np.testing.assert_allclose(shaped(x), wanted(x), rtol=1e-14)


def test_scores_gradients_and_theory_are_in_the_dataset(small):
    dataset, _ = small
    assert dict(dataset.sizes) == {"initialisation": 3, "seed": 2, "epoch": 3, "layer": 3}
    assert dataset["gradient"].dims == ("initialisation", "seed", "layer")
    assert dataset["accuracy"].dims == ("initialisation", "seed", "epoch")
    assert (dataset["status"] == Status.OK).all()
    assert (dataset["gradient"] > 0).all()
    assert set(spec().variables) == {*map(str, dataset.variables)}


def test_an_initialisation_alone_has_no_dimension(tmp_path):
    dataset = mf.open_results(
        run_training(spec(initialisation="torch", gradients=False, epochs=1), tmp_path)
    )
    assert dict(dataset.sizes) == {"seed": 2, "epoch": 2}
    assert str(dataset["initialisation"].values) == "torch"


@pytest.mark.parametrize("after", [1, 5, 9])
def test_stopped_and_gone_on_with_is_undisturbed(small, tmp_path, after):
    calls = itertools.count()
    path = run_training(spec(), tmp_path, stop=lambda: next(calls) >= after)
    assert not Store(path, "r").finished().all()
    run_training(spec(), tmp_path)
    assert not checkpoint.folder(path).exists()
    assert digest(path) == small[1]


def test_gradients_that_were_cut_short_are_measured_anew(small, tmp_path):
    path = run_training(spec(), tmp_path)
    file = path / "gradient" / "c" / "1" / "0" / "0"
    file.write_bytes(file.read_bytes()[:-3])
    assert Store(path, "r").finished().tolist() == [True, True, False, True, True, True]
    run_training(spec(), tmp_path)
    assert digest(path) == small[1]


def test_of_depths_the_gradients_end_where_networks_do(tmp_path):
    changes = {"initialisation": None, "depth": [2, 3], "on": "edge_of_chaos", "epochs": 1}
    table = {key: value for key, value in (TABLE | changes).items() if value is not None}
    path = run_training(training_of(table | {"axes": {"sigma_b": 0.1}}, "depths"), tmp_path)
    found = mf.open_results(path)["gradient"]
    assert found.dims == ("depth", "seed", "layer")
    assert (found.sel(depth=2).notnull().sum("layer") == 2).all()
    assert found.sel(depth=3).notnull().all()


def test_without_an_edge_only_pytorch_begins(tmp_path):
    grid = TrainingGrid(spec(activations=["softplus"], seeds=1))
    found = {grid.starts.named(network.point): grid.status(network) for network in grid.networks}
    assert found["torch"] == Status.OK
    assert found["edge_of_chaos"] == Status.NO_SOLUTION
    changes = {"activations": ["softplus"], "initialisation": ["edge_of_chaos"]}
    dataset = mf.open_results(run_training(spec(**changes), tmp_path))
    assert (dataset["status"] == Status.NO_SOLUTION).all()
    assert dataset["gradient"].isnull().all()


MISTAKES = {
    "an unknown initialisation": (
        {"initialisation": "he"},
        "initialisation = 'he' is not legal; input should be 'torch', 'edge_of_chaos' or 'shaped'",
    ),
    "no initialisation": ({"initialisation": []}, r"initialisation = \[\] is not legal"),
    "one twice": ({"initialisation": ["torch"] * 2}, "must differ from each other"),
    "the edge twice": ({"on": "edge_of_chaos"}, "on: leave it out where initialisation is given"),
    "σ's too": ({"axes": {"sigma_b": 0.1}}, "axes.sigma_b: leave it out"),
    "several depths": ({"depth": [2, 3]}, r"depth = \[2, 3\] must be one number"),
    "gradients that are no choice": ({"gradients": 3}, "gradients = 3 is not legal"),
    "neither axes nor names": ({"initialisation": None}, "axes: sigma_w or weight_variance"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    changes, words = MISTAKES[name]
    with pytest.raises(MeanFieldError, match=words):
        spec(**changes)


# Shaped as `TABLE` is, so that nothing is compiled for it.
CONFIG = """
activations = ["tanh"]
initialisation = ["torch", "edge_of_chaos", "shaped"]
data = "digits"
depth = 3
width = 12
epochs = 3
learning_rate = 0.02
seeds = 2
gradients = true
figures = ["custom-activation"]
checks = ["better_than_default"]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(CONFIG)
    return tmp_path


def test_reproduce_prints_a_line_for_each_network_and_the_claim(folder, capsys, monkeypatch):
    assert not ends("reproduce", "own.toml")
    said = capsys.readouterr().out
    for kind in KINDS:
        line = (
            rf"^{kind}: [\d.]+ %, from [\d.]+ to [\d.]+ % of the test set after 3 epochs, 2 seeds$"
        )
        assert re.search(line, said, re.MULTILINE)
    assert "accuracy, torch / edge_of_chaos" in said
    assert "better_than_default: holds; 0 violations" in said
    assert (folder / "results" / "figures" / f"{NAME}.png").stat().st_size > 10_000
    assert not ends("status", "results/own.zarr")
    assert "finished" in capsys.readouterr().out

    def turned_round(dataset):
        return better_than_default(dataset.assign(accuracy=1 - dataset["accuracy"]))

    record = dataclasses.replace(checks["better_than_default"], function=turned_round)
    monkeypatch.setitem(checks._items, "better_than_default", record)
    assert ends("reproduce", "own.toml") == 1
    said = capsys.readouterr().out
    assert "violated: tanh accuracy, torch / edge_of_chaos = " in said
    assert "better_than_default: is violated; " in said


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('"shaped"]', '"scaled"]', "own.toml: initialisation.2 = 'scaled' is not legal"),
        ("better_than_default", "better_than", "did you mean better_than_default"),
        ("gradients = true", "", "figure custom-activation needs layer, gradient"),
        ("tanh", "mine.py:phi", "mine.py is no Python file"),
    ],
)
def test_mistakes_of_a_config_are_one_line(folder, capsys, before, after, words):
    (folder / "own.toml").write_text(CONFIG.replace(before, after))
    error = fails(capsys, "reproduce", "own.toml")
    assert words in error
    assert len(error.strip().splitlines()) == 1


def scores(torch, edge, **dims):
    values = np.array([torch, edge])[..., None]
    status = np.where(np.isnan(values), Status.TRAINING_DIVERGES, Status.OK)
    named = ("initialisation", "seed", "epoch")
    return xr.Dataset(
        {"accuracy": (named, values), "status": (named, status)},
        coords={"initialisation": KINDS[:2], "seed": [0, 1], "epoch": [3], "activation": "phi"},
    )


def test_the_claim_is_about_each_seed():
    verdict = better_than_default(scores([0.1, 0.5], [0.4, 0.5]))
    (found,) = verdict.comparisons
    assert (found.worst, found.where, found.violations, found.points) == (1.0, {"seed": 1}, 1, 2)
    assert not verdict.holds
    assert better_than_default(scores([0.1, 0.1], [0.4, 0.5])).holds


def test_a_network_that_diverged_decides_nothing():
    verdict = better_than_default(scores([0.1, np.nan], [0.4, 0.5]))
    assert not verdict.violations
    assert verdict.unsolved == ("activation = phi, initialisation = torch, seed = 1",)
    assert not verdict.holds


def test_a_claim_about_the_default_needs_it():
    both = scores([0.1, 0.1], [0.4, 0.5])
    for one in ([0], [1]):
        with pytest.raises(MeanFieldError, match="it must have 'torch' and another"):
            better_than_default(both.isel(initialisation=one))


def test_a_network_of_one_layer_is_drawn():
    dataset = custom_activation().isel(layer=[-1], epoch=[0])
    assert len(plots.draw(NAME, dataset).axes) == 2


def test_bands_reach_from_the_lowest_seed_to_the_highest():
    dataset = custom_activation()
    dataset["accuracy"][:, 1] += 0.1
    left, right = plots.draw(NAME, dataset).axes
    for kind, line, band in zip(KINDS, left.lines, left.collections, strict=True):
        here = 100 * dataset["accuracy"].sel(initialisation=kind)
        np.testing.assert_allclose(line.get_ydata(), here.mean("seed"))
        ends_ = band.get_paths()[0].vertices[:, 1]
        assert ends_.min() == pytest.approx(float(here.min()))
        assert ends_.max() == pytest.approx(float(here.max()))
    for measured, theory in zip(right.lines[::2], right.lines[1::2], strict=True):
        np.testing.assert_allclose(measured.get_ydata(), theory.get_ydata(), rtol=1e-12)


def test_a_training_is_known_by_what_is_in_it():
    assert "custom_activation" in training_names()
    assert "custom_activation" not in config_names()
    assert "custom_activation" in completion.complete_training("custom")


def test_the_page_shows_the_file_that_is_trained():
    page = Path(__file__).parent.parent / "docs" / "howto" / "activation-that-trains.md"
    shown = re.search(r":caption: my_activation.py\n\n(.*?)```", page.read_text(), re.DOTALL)
    code = (config_directory() / "my_activation.py").read_text()
    assert shown
    assert shown[1].strip() == code.split('"""', 2)[2].strip()
    assert load_training("custom_activation").activations[0].label == "my_activation.py:phi"
