"""Training: an epoch against NumPy, networks that begin at their fixed point, resumed stores."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_sweep import digest

import meanfield as mf
from meanfield.errors import MeanFieldError, MeanFieldWarning, Status
from meanfield.training import checkpoint, engine, run_training
from meanfield.training.data import load_images
from meanfield.training.descent import descend, score
from meanfield.training.grid import TrainingGrid
from meanfield.training.group import DIVERGED, Group
from meanfield.training.network import PRECISION, Scales, draw, logits, random_streams
from meanfield.training.spec import Ramp, training_of

TABLE = {
    "activations": ["shtanh"],
    "on": "edge_of_chaos",
    "data": "digits",
    "depth": 3,
    "width": 16,
    "epochs": 4,
    "learning_rate": 0.01,
    "seeds": 2,
    "axes": {"a": [1.0, 4.0], "bias_variance": 0.01},
}


def spec(**changes):
    return training_of(TABLE | changes, "small")


def trained(out, **changes):
    return mf.open_results(run_training(spec(**changes), out))


@pytest.fixture(scope="module")
def images():
    return load_images("digits")


@pytest.fixture(scope="module")
def batches(images):
    return engine.places_of(images)[0]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A training that nobody disturbed, and its digest."""
    path = run_training(spec(), tmp_path_factory.mktemp("small"))
    return mf.open_results(path), digest(path)


def one(value):
    return jnp.asarray([value], PRECISION)


def forward(weights, x):
    """Return all pre-activations of a tanh network, by NumPy in double precision."""
    h = [x @ weights["first"] + weights["biases"][0]]
    for kernel, bias in zip(weights["hidden"], weights["biases"][1:], strict=True):
        h.append(np.tanh(h[-1]) @ kernel + bias)
    return [*h, np.tanh(h[-1]) @ weights["last"] + weights["last_biases"]]


def step(weights, x, labels, rate):
    """Take one step of gradient descent in place, by NumPy; return the loss before it."""
    *h, out = forward(weights, x)
    p = np.exp(out - out.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -np.log(p[rows, labels]).mean()
    p[rows, labels] -= 1
    delta = p / len(labels)
    slopes = {"last": np.tanh(h[-1]).T @ delta, "last_biases": delta.sum(axis=0)}
    delta = (delta @ weights["last"].T) * (1 - np.tanh(h[-1]) ** 2)
    hidden, biases = [], [delta.sum(axis=0)]
    for kernel, before in zip(weights["hidden"][::-1], h[-2::-1], strict=True):
        hidden.append(np.tanh(before).T @ delta)
        delta = (delta @ kernel.T) * (1 - np.tanh(before) ** 2)
        biases.append(delta.sum(axis=0))
    slopes |= {
        "first": x.T @ delta,
        "hidden": np.array(hidden[::-1]),
        "biases": np.array(biases[::-1]),
    }
    for name, slope in slopes.items():
        weights[name] -= rate * slope
    return loss


def test_an_epoch_is_that_of_numpy(batches):
    size, rate, seed, depth = 100, 0.05, 3, 4
    scales = Scales(one(1.3), one(0.2), one(0.7))
    networks = draw(jnp.asarray([seed]), scales, 64, 12, depth, 10, "gaussian")
    numbers = {
        field.name: np.asarray(getattr(networks, field.name)[0], float)
        for field in dataclasses.fields(networks)
    }
    phi = mf.activation("tanh")
    key = jax.random.fold_in(random_streams(jnp.asarray(seed))[1], 1)
    order = np.asarray(jax.random.permutation(key, len(batches.train_labels)))
    inputs = np.float64(np.float32(0.7)) * np.asarray(batches.train_inputs, float)
    losses = [
        step(numbers, inputs[chosen], batches.train_labels[chosen], rate)
        for chosen in order[: order.size // size * size].reshape(-1, size)
    ]
    arguments = (
        scales.inputs,
        jnp.asarray([seed]),
        jnp.asarray(1),
        batches,
        jnp.float32(rate),
        size,
    )
    after, found = descend(phi, networks, *arguments)
    for name, value in numbers.items():
        np.testing.assert_allclose(getattr(after, name)[0], value, rtol=0, atol=2e-5)
    assert float(found.loss[0]) == pytest.approx(np.mean(losses), rel=1e-5)
    test = np.float64(np.float32(0.7)) * np.asarray(batches.test_inputs, float)
    right = forward(numbers, test)[-1].argmax(axis=1) == np.asarray(batches.test_labels)
    assert float(found.accuracy[0]) == pytest.approx(right.mean(), abs=1 / right.size)


@pytest.mark.parametrize("size", [64, 1297])
def test_the_first_score_is_that_of_numpy(batches, size):
    scales = Scales(one(1.0), one(0.1), one(1.0))
    networks = draw(jnp.asarray([0]), scales, 64, 10, 2, 10, "orthogonal")
    found = score(mf.activation("tanh"), networks, scales.inputs, batches, size)
    numbers = {
        field.name: np.asarray(getattr(networks, field.name)[0], float)
        for field in dataclasses.fields(networks)
    }
    loss = step(dict(numbers), np.asarray(batches.train_inputs, float), batches.train_labels, 0.0)
    assert float(found.loss[0]) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("ensemble", ["gaussian", "orthogonal"])
@pytest.mark.parametrize(("name", "params"), [("shtanh", {"a": 2.0}), ("elu", {})])
def test_networks_begin_at_their_fixed_point(batches, ensemble, name, params):
    """h¹ has the variance q* for every image, and so has h^l: 4 standard errors of 40 networks."""
    phi = mf.activation(name, **params)
    point = mf.check(mf.edge_of_chaos(phi, 0.2))
    q, sigma_w = float(point.q), float(point.sigma_w)
    seeds, width, depth = 40, 100, 5
    scale = np.sqrt(q - 0.04) / sigma_w
    scales = Scales(*(jnp.full(seeds, x, PRECISION) for x in (sigma_w, 0.2, scale)))
    networks = draw(jnp.arange(seeds), scales, 64, width, depth, 10, ensemble)
    image = np.asarray(batches.train_inputs[0])
    # A network of one layer, of two, ...: the variance of its last pre-activations.
    for layers in range(1, depth):
        cut = dataclasses.replace(
            networks,
            hidden=networks.hidden[:, : layers - 1],
            biases=networks.biases[:, :layers],
            last=networks.hidden[:, layers - 1],
            last_biases=networks.biases[:, layers],
        )
        h = jax.vmap(lambda network: logits(phi, network, jnp.float32(scale), image[None])[0])(cut)
        variances = np.mean(np.asarray(h, float) ** 2, axis=1)
        error = variances.std(ddof=1) / np.sqrt(seeds)
        assert abs(variances.mean() - q) < 4 * error
    first = scale * image @ np.asarray(networks.first, float) + np.asarray(
        networks.biases[:, 0], float
    )
    variances = np.mean(first**2, axis=1)
    assert abs(variances.mean() - q) < 4 * variances.std(ddof=1) / np.sqrt(seeds)


def test_the_input_factor_solves_its_equation():
    grid = TrainingGrid(spec(axes={"a": [1.0, 4.0], "bias_variance": [0.01, 1.0]}))
    for network in grid.networks:
        sigma_w, sigma_b, factor = grid.scales(network)
        q = grid.known[0]["q"][network.point]
        assert sigma_w**2 * factor**2 + sigma_b**2 == pytest.approx(q, rel=1e-14)


def test_scores_and_theory_are_in_the_dataset(small):
    dataset, _ = small
    assert dict(dataset.sizes) == {"a": 2, "seed": 2, "epoch": 5}
    assert (dataset["status"] == Status.OK).all()
    point = mf.edge_of_chaos(mf.activation("shtanh", a=4.0), 0.1)
    assert float(dataset["q"].sel(a=4)) == pytest.approx(float(point.q), rel=1e-12)
    assert float(dataset["sigma_w"].sel(a=4)) == pytest.approx(float(point.sigma_w), rel=1e-12)
    assert float(dataset["sigma_b"].sel(a=4)) == pytest.approx(0.1, rel=1e-15)
    # Of 500 images each is right or wrong, to the last bit.
    right = 500 * dataset["accuracy"].values
    np.testing.assert_allclose(right, np.round(right), atol=1e-9)
    # Logits of variance 1 lose 1/2 on guessing, in the mean over many of them.
    np.testing.assert_allclose(dataset["loss"].isel(epoch=0), np.log(10) + 0.5, atol=0.5)
    assert (dataset["loss"].isel(epoch=-1) < dataset["loss"].isel(epoch=0)).all()


def test_a_network_learns(tmp_path):
    found = trained(tmp_path, epochs=40, learning_rate=0.02, seeds=1)["accuracy"]
    assert (found.isel(epoch=0) < 0.35).all()
    assert (found.isel(epoch=-1) > 0.85).all()


def test_axes_of_everything(tmp_path):
    changes = {
        "activations": ["shtanh", {"name": "sexp"}],
        "depth": [1, 3],
        "ensemble": ["gaussian", "orthogonal"],
        "epochs": 2,
        "seeds": 1,
        "schedule": {"a": {"to": 2, "epochs": 2}},
    }
    dataset = trained(tmp_path, **changes)
    assert dataset["accuracy"].dims == (
        "activation", "a", "depth", "ensemble", "protocol", "seed", "epoch",
    )  # fmt: skip
    assert dataset["accuracy"].size == 2 * 2 * 2 * 2 * 2 * 1 * 3
    assert (dataset["status"] == Status.OK).all()
    assert list(dataset["ensemble"].values) == ["gaussian", "orthogonal"]
    # What is scheduled begins as what is fixed does.
    begun = dataset["loss"].sel(epoch=0)
    assert (begun.sel(protocol="fixed") == begun.sel(protocol="scheduled")).all()


def test_the_schedule_is_that_of_the_paper(tmp_path):
    ramp = Ramp(to=2, epochs=80)
    np.testing.assert_allclose(ramp.values(10, 100)[:80], np.flip(np.linspace(2, 10, 80)))
    assert (ramp.values(10, 100)[80:] == 2).all()
    assert ramp.values(10, 5).size == 5
    grid = TrainingGrid(spec(schedule={"a": {"to": 2, "epochs": 3}}))
    moving = next(n for n in grid.networks if n.protocol == "scheduled" and n.point == 1)
    seen = [float(grid.activation(moving, epoch).a) for epoch in range(5)]
    assert seen == [4, 4, 3, 2, 2]
    # A schedule that goes nowhere changes nothing.
    dataset = trained(
        tmp_path, axes={"a": 4.0, "bias_variance": 0.01}, schedule={"a": {"to": 4, "epochs": 2}}
    )
    fixed, moved = (dataset["loss"].sel(protocol=p) for p in ("fixed", "scheduled"))
    assert (fixed == moved).all()


def test_what_diverges_is_stopped_and_told(tmp_path):
    told = []
    path = run_training(spec(learning_rate=1e4, epochs=6), tmp_path, told.append)
    dataset = mf.open_results(path)
    lost = dataset["status"] == Status.TRAINING_DIVERGES
    assert lost.any("epoch").all()
    assert (dataset["status"].isel(epoch=0) == Status.OK).all()
    # Once lost, lost for good, and without scores.
    assert (lost.astype(int).diff("epoch") >= 0).all()
    assert (dataset["loss"].isnull() == lost).all()
    assert (dataset["accuracy"].isnull() == lost).all()
    assert told[-1].diverged == 4
    assert told[-1].done == told[-1].total == 24
    # They were not trained to the end.
    assert len(told) < 1 + 4 * 7
    again = []
    run_training(spec(learning_rate=1e4, epochs=6), tmp_path, again.append)
    assert [p.diverged for p in again] == [4]


def test_without_a_fixed_point_there_is_no_network(tmp_path):
    changes = {"activations": ["tanh"], "on": None}
    axes = {"weight_variance": [0.5, 2.0], "sigma_b": 0.0}
    dataset = trained(tmp_path, **changes, axes=axes, epochs=1)
    assert (dataset["status"].isel(weight_variance=0) == Status.VANISHES).all()
    assert dataset["accuracy"].isel(weight_variance=0).isnull().all()
    assert (dataset["status"].isel(weight_variance=1) == Status.OK).all()
    phi = mf.activation("tanh")
    depth = float(mf.depth_scales(mf.Dense(phi, np.sqrt(2.0), 0.0)).xi_c)
    assert float(dataset["xi_c"].isel(weight_variance=1)) == pytest.approx(depth, rel=1e-10)


def test_an_activation_without_an_edge(tmp_path):
    told = []
    path = run_training(
        spec(activations=["softplus"], axes={"bias_variance": 0.01}, epochs=1),
        tmp_path,
        told.append,
    )
    dataset = mf.open_results(path)
    assert (dataset["status"] == Status.NO_SOLUTION).all()
    assert dataset["loss"].isnull().all()
    assert [(state.done, state.total) for state in told] == [(2, 2)]


def test_a_parameter_outside_its_domain(tmp_path):
    dataset = trained(tmp_path, axes={"a": [-1.0, 1.0], "bias_variance": 0.01}, epochs=1)
    assert (dataset["status"].sel(a=-1) == Status.OUT_OF_DOMAIN).all()
    assert (dataset["status"].sel(a=1) == Status.OK).all()


@pytest.mark.parametrize("after", [1, 4, 9, 13])
def test_stopped_and_gone_on_with_is_undisturbed(small, tmp_path, after):
    _, undisturbed = small
    calls = itertools.count()
    path = run_training(spec(), tmp_path, stop=lambda: next(calls) >= after)
    with pytest.warns(MeanFieldWarning, match="unfinished"):
        assert mf.open_results(path).attrs["unfinished"] > 0
    told = []
    run_training(spec(), tmp_path, told.append)
    # Epochs that were done are not done again.
    assert told[0].done > 0 or after == 1
    assert told[-1].done == told[-1].total == 16
    assert not checkpoint.folder(path).exists()
    assert digest(path) == undisturbed


def test_a_damaged_checkpoint_is_begun_anew(small, tmp_path):
    calls = itertools.count()
    path = run_training(spec(), tmp_path, stop=lambda: next(calls) >= 6)
    files = list(checkpoint.folder(path).glob("*.npz"))
    files[0].write_bytes(files[0].read_bytes()[:500])
    (checkpoint.folder(path) / "0.partial").write_bytes(b"half")
    run_training(spec(), tmp_path)
    assert digest(path) == small[1]


@pytest.mark.parametrize("at_once", [1, 3])
def test_killed_in_the_middle_of_networks(small, tmp_path, monkeypatch, at_once):
    """Networks in training go on from their last checkpoint, which was written in passing."""
    monkeypatch.setattr(engine, "CHECKPOINT", 0.0)
    monkeypatch.setattr(engine, "RARELY", 0)
    monkeypatch.setattr(engine, "together", lambda *_: at_once)
    told = []

    def kill(state):
        told.append(state)
        if len(told) == 5:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run_training(spec(), tmp_path, kill)
    path = tmp_path / "small.zarr"
    assert list(checkpoint.folder(path).glob("*.npz"))
    again = []
    run_training(spec(), tmp_path, again.append)
    assert again[0].done >= told[-1].done - 2 * at_once
    assert again[0].done > 0
    assert not checkpoint.folder(path).exists()
    if at_once == 1:
        assert digest(path) == small[1]
    else:
        dataset = mf.open_results(path)
        np.testing.assert_allclose(dataset["loss"], small[0]["loss"], rtol=1e-3)


def test_a_checkpoint_that_a_kill_left_behind_is_removed(tmp_path):
    path = run_training(spec(epochs=1), tmp_path)
    folder = checkpoint.folder(path)
    folder.mkdir()
    for name in ("1.npz", "2.partial"):
        (folder / name).write_bytes(b"left")
    run_training(spec(epochs=1), tmp_path)
    assert not folder.exists()


def test_a_finished_training_is_left_alone(tmp_path):
    path = run_training(spec(epochs=1), tmp_path)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}
    told = []
    run_training(spec(epochs=1), tmp_path, told.append)
    assert [p.done for p in told] == [4]
    assert before == {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}


def test_another_training_is_refused(tmp_path, monkeypatch):
    run_training(spec(epochs=1), tmp_path)
    with pytest.raises(MeanFieldError, match="is of another config: width was 16, is 8"):
        run_training(spec(epochs=1, width=8), tmp_path)
    path = run_training(spec(epochs=2), tmp_path, overwrite=True)
    assert mf.open_results(path).sizes["epoch"] == 3
    images = load_images("digits")
    other = dataclasses.replace(images, test_labels=(images.test_labels + 1) % 10)
    monkeypatch.setattr(engine, "load_images", lambda *_: other)
    with pytest.raises(MeanFieldError, match="images of digits was"):
        run_training(spec(epochs=2), tmp_path)


def test_many_at_once_are_as_one_by_one(small, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "together", lambda *_: 3)
    dataset = trained(tmp_path)
    np.testing.assert_allclose(dataset["loss"], small[0]["loss"], rtol=1e-3)
    np.testing.assert_allclose(dataset["accuracy"], small[0]["accuracy"], atol=0.02)


def test_an_accelerator_trains_what_fits_its_memory(images, batches, monkeypatch):
    grid = TrainingGrid(spec())
    assert engine.together(grid, 3, batches) == 1
    monkeypatch.setattr(engine.devices, "lanes", lambda: 128)

    class Device:
        def __init__(self, limit):
            self.limit = limit

        def memory_stats(self):
            return {"bytes_limit": self.limit}

    real = jax.local_devices()
    for limit, least, most in ((10**12, 128, 128), (10**7, 2, 127), (1, 1, 1)):
        monkeypatch.setattr(engine.jax, "local_devices", lambda limit=limit: [Device(limit)])
        assert least <= engine.together(grid, 3, batches) <= most
    monkeypatch.setattr(engine.jax, "local_devices", lambda: real)
    assert len(engine.places_of(images)) == 1


def test_networks_that_diverge_leave_their_unit(batches):
    """Of six, three diverge: the arrays halve, and the others go on as if alone."""
    grid = TrainingGrid(spec(seeds=3))
    whole = Group(grid, grid.networks)
    for _ in range(2):
        whole.advance(batches)
    for row in (0, 3, 5):
        broken = whole._weights.last.at[row].set(jnp.nan)
        whole._weights = dataclasses.replace(whole._weights, last=broken)
    whole.advance(batches)
    assert whole._weights.first.shape[0] == 3
    assert [whole.behind()[network] for network in grid.networks] == [0, 2, 2, 0, 2, 0]
    assert [network.number for network, _ in whole.checkpoints()] == [1, 2, 4]
    early = dict(whole.ended())
    assert [network.number for network in early] == [0, 3, 5]
    lost = early[grid.networks[3]]
    assert list(lost["status"]) == [Status.OK] * 2 + [Status.TRAINING_DIVERGES] * 3
    assert np.isnan(lost["loss"][2:]).all()
    assert not np.isnan(lost["loss"][:2]).any()
    while not whole.finished:
        whole.advance(batches)
    alone = Group(grid, [grid.networks[2]])
    while not alone.finished:
        alone.advance(batches)
    late, expected = dict(whole.ended()), dict(alone.ended())[grid.networks[2]]
    assert [network.number for network in late] == [1, 2, 4]
    np.testing.assert_allclose(late[grid.networks[2]]["loss"], expected["loss"], rtol=1e-3)
    assert list(whole.ended()) == []


def test_logits_have_the_variance_one(batches):
    """Of 40 networks in the mean, within 4 standard errors, whatever their q*."""
    seeds = 40
    for a, bias in ((0.5, 1e-2), (8.0, 1.0)):
        phi = mf.activation("shtanh", a=a)
        point = mf.check(mf.edge_of_chaos(phi, bias))
        sigma_w, q = float(point.sigma_w), float(point.q)
        factor = np.sqrt(q - bias**2) / sigma_w
        scales = Scales(*(jnp.full(seeds, x, PRECISION) for x in (sigma_w, bias, factor)))
        networks = draw(jnp.arange(seeds), scales, 64, 200, 3, 10, "gaussian")
        image, s = batches.train_inputs[:1], jnp.float32(factor)
        found = jax.vmap(lambda network, f=phi, s=s, x=image: logits(f, network, s, x)[0])(networks)
        variances = np.mean(np.asarray(found, float) ** 2, axis=1)
        assert abs(variances.mean() - 1) < 4 * variances.std(ddof=1) / np.sqrt(seeds)


def test_a_loss_far_above_guessing_has_diverged(batches):
    grid = TrainingGrid(spec(axes={"a": 1.0, "bias_variance": 0.01}, seeds=1))
    group = Group(grid, grid.networks)
    group.advance(batches)
    huge = 1e4 * DIVERGED * group._weights.last
    group._weights = dataclasses.replace(group._weights, last=huge)
    group.advance(batches)
    assert group.finished
    ((_, values),) = group.ended()
    assert values["status"][-1] == Status.TRAINING_DIVERGES


def test_weights_that_the_last_step_broke_have_no_accuracy(batches):
    """The loss is that before the steps; logits that are not finite say what became of them."""
    scales = Scales(one(1.0), one(0.1), one(1.0))
    networks = draw(jnp.asarray([0]), scales, 64, 10, 2, 10, "gaussian")
    broken = dataclasses.replace(networks, last_biases=networks.last_biases.at[0, 3].set(jnp.inf))
    for weights, known in ((networks, True), (broken, False)):
        found = score(mf.activation("tanh"), weights, scales.inputs, batches, 1297)
        assert np.isfinite(found.accuracy[0]) == known


def test_weights_of_no_variance(tmp_path):
    """With σw = 0 every layer is its biases; theory knows that network, and it has a scale."""
    axes = {"weight_variance": [0.0, 1e-12], "sigma_b": 0.5}
    dataset = trained(tmp_path, activations=["tanh"], on=None, axes=axes, epochs=1)
    assert (dataset["status"] == Status.OK).all()
    assert np.isfinite(dataset["loss"]).all()


def test_one_hidden_layer_exported(tmp_path):
    path = run_training(spec(depth=1, epochs=1), tmp_path)
    dataset = mf.open_results(path)
    assert (dataset["status"] == Status.OK).all()
    lines = mf.export_results(path, "csv").read_text().splitlines()
    assert len(lines) == 2 + dataset["loss"].size


def test_several_devices_share_a_training(small, tmp_path):
    """Two devices of a processor give what its threads do."""
    code = (
        "import jax\nfrom test_training import spec\nfrom meanfield.training import run_training\n"
        f"assert jax.device_count() == 2\nrun_training(spec(), {str(tmp_path)!r})\n"
    )
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([sys.executable, "-c", code], env=env, cwd=Path(__file__).parent, check=True)
    dataset = mf.open_results(tmp_path / "small.zarr")
    np.testing.assert_allclose(dataset["loss"], small[0]["loss"], rtol=1e-5)


MISTAKES = {
    "an unknown data set": ({"data": "digitz"}, "unknown data 'digitz'; did you mean digits?"),
    "no layers": ({"depth": 0}, "depth = 0 is not legal"),
    "a depth that is no number": ({"depth": "deep"}, "depth = 'deep' is not legal"),
    "a depth that is no whole number": ({"depth": 2.5}, "depth = 2.5 is not legal"),
    "a depth twice": ({"depth": [2, 2]}, "depth = \\[2, 2\\] must ascend"),
    "depths that descend": ({"depth": [9, 2]}, "depth = \\[9, 2\\] must ascend"),
    "a schedule that is a number": (
        {"schedule": {"a": 3}},
        "schedule.a = 3 is not legal; input should be a valid dictionary$",
    ),
    "no depth at all": ({"depth": []}, r"depth = \[\] is not legal; it must not be empty"),
    "no width": ({"width": 0}, "width = 0 is not legal"),
    "an unknown ensemble": ({"ensemble": "uniform"}, "ensemble = 'uniform' is not legal"),
    "an ensemble twice": ({"ensemble": ["gaussian"] * 2}, "must differ from each other"),
    "no epochs": ({"epochs": 0}, "epochs = 0 is not legal"),
    "a rate that is none": ({"learning_rate": 0}, "learning_rate = 0 is not legal"),
    "an infinite rate": ({"learning_rate": float("inf")}, "learning_rate = inf is not legal"),
    "no seeds": ({"seeds": 0}, "seeds = 0 is not legal"),
    "too many networks": ({"seeds": 100_000}, "200000 networks; at most 100000 are possible"),
    "too much": ({"seeds": 1000, "epochs": 100_000}, "at most 100000000 are possible"),
    "a schedule that is too long": (
        {"schedule": {"a": {"to": 2, "epochs": 80}}},
        "schedule.a.epochs = 80 is not legal; there are epochs = 4",
    ),
    "a key that is none": ({"dept": 3}, "dept is not a known key; did you mean depth?"),
    "a schedule of no axis": (
        {"schedule": {"b": {"to": 2, "epochs": 3}}},
        "schedule.b is no axis of a parameter; legal: a",
    ),
    "a schedule to nowhere": (
        {"schedule": {"a": {"to": -2, "epochs": 3}}},
        "schedule.a.to = -2 is not legal for shtanh; it must be",
    ),
    "a schedule of one epoch": (
        {"schedule": {"a": {"to": 2, "epochs": 1}}},
        "schedule.a.epochs = 1 is not legal",
    ),
    "a schedule with another key": (
        {"schedule": {"a": {"til": 2, "epochs": 3}}},
        "schedule.a.til is not a known key; legal: to, epochs",
    ),
    "an axis that is solved for": (
        {"axes": {"a": 1.0, "sigma_w": 1.0, "sigma_b": 0.1}},
        "axes.sigma_w: on the edge of chaos it is solved for",
    ),
    "a sweep's key": ({"observables": ["xi_c"]}, "observables is not a known key"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    changes, words = MISTAKES[name]
    with pytest.raises(MeanFieldError, match=words):
        spec(**changes)


def test_a_batch_larger_than_the_images(tmp_path):
    with pytest.raises(MeanFieldError, match="batch = 5000 is not legal; digits has 1297 images"):
        run_training(spec(batch=5000), tmp_path)
    assert list(tmp_path.iterdir()) == []


CONFIG = """
activations = ["shtanh"]
on = "edge_of_chaos"
data = "digits"
depth = 4
width = 60
epochs = 12
learning_rate = 0.01
seeds = 3

[axes]
a = [1, 2]
bias_variance = 0.01
"""


def process(folder, *options):
    command = [sys.executable, "-m", "meanfield", "train", "own.toml", *options]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True)  # fmt: skip


def begun(folder):
    """Start a training, and return it once networks are in training."""

    def finished():
        return len(list(folder.glob("results/own.zarr/status/c/*/*/*")))

    before, running = finished(), process(folder)
    while finished() == before and running.poll() is None:
        time.sleep(0.05)
    return running


@pytest.mark.faults
def test_killed_and_signalled(tmp_path):
    (tmp_path / "whole").mkdir()
    for folder in (tmp_path, tmp_path / "whole"):
        (folder / "own.toml").write_text(CONFIG)
    whole = process(tmp_path / "whole")
    out, errors = whole.communicate()
    assert whole.returncode == 0, errors
    assert "6 networks trained" in out
    assert "best after 12 epochs: " in out
    running = begun(tmp_path)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    running = begun(tmp_path)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate()
    assert running.returncode in (0, 130)
    if running.returncode == 130:
        assert "stopping: the epoch in hand is finished first" in errors
        assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    running = process(tmp_path)
    out, errors = running.communicate()
    assert running.returncode == 0, errors
    store = tmp_path / "results" / "own.zarr"
    assert digest(store) == digest(tmp_path / "whole" / "results" / "own.zarr")
