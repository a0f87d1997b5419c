"""Activations in a user's own files, on the command line and in configs: nothing else is run."""

import numpy as np
import pytest
from test_cli import ends, fails
from test_sweep import write

import meanfield as mf
from meanfield.activations import activations
from meanfield.activations.files import load
from meanfield.errors import MeanFieldError
from meanfield.sweep import cluster
from meanfield.sweep.config import FOLDER
from meanfield.sweep.engine import versions
from meanfield.sweep.spec import SweepSpec

MINE = """
import jax.numpy as jnp
import meanfield as mf
from meanfield.activations.base import positive

def bump(x):
    return x * jnp.exp(-jnp.abs(x))

@mf.register_activation("{name}", formula="x/(1 + |x|/a)", source="softsign of width a")
class SoftClip(mf.Activation):
    a: float = positive(1.0)

    def __call__(self, x):
        return x / (1 + jnp.abs(x) / self.a)

    def kinks(self):
        return (0.0,)

ready = mf.activation("tanh")
number = 3
"""
CONFIG = """
activations = ["mine.py:bump", { name = "mine.py:SoftClip", a = 2.0 }, "mine.py:ready", "tanh"]
observables = ["moment_ratio"]
method = "quadrature"
[axes]
sigma_w = [1.5, 2.5]
sigma_b = 0.3
"""


@pytest.fixture
def folder(tmp_path, request, monkeypatch):
    # What the file registers is known to this test alone.
    monkeypatch.setattr(activations, "_items", dict(activations))
    (tmp_path / "mine.py").write_text(MINE.format(name=request.node.name))
    return tmp_path


def test_a_config_names_files_beside_it(folder, monkeypatch):
    monkeypatch.chdir("/")
    path = mf.run_sweep(mf.load_config(write(folder, CONFIG, "own")), folder)
    dataset = mf.open_results(path)
    assert dataset["activation"].values.tolist() == [
        "mine.py:bump",
        "mine.py:SoftClip(a=2)",
        "mine.py:ready",
        "tanh",
    ]
    assert (dataset["status"] == mf.Status.OK).all()
    np.testing.assert_array_equal(dataset["q"][2], dataset["q"][3])
    phi = load(f"{folder}/mine.py:SoftClip").make(a=2.0)
    for index, sigma_w in enumerate((1.5, 2.5)):
        state = mf.steady_state(mf.Dense(phi, sigma_w, 0.3))
        np.testing.assert_allclose(dataset["q"][1, index], state.q, rtol=1e-12)


def test_parameters_in_a_file_are_axes(folder):
    text = CONFIG.replace(CONFIG.splitlines()[1], 'activations = ["mine.py:SoftClip"]')
    text = text.replace("sigma_b = 0.3", "sigma_b = 0.3\na = [-1, 0.5, 2]")
    dataset = mf.open_results(mf.run_sweep(mf.load_config(write(folder, text, "own")), folder))
    outcomes = dataset["status"].sel(sigma_w=2.5).values.tolist()
    assert outcomes == [mf.Status.OUT_OF_DOMAIN, mf.Status.OK, mf.Status.OK]


def test_a_changed_file_is_another_sweep(folder):
    text = CONFIG.replace(CONFIG.splitlines()[1], 'activations = ["mine.py:bump"]')
    config, file = write(folder, text, "own"), folder / "mine.py"
    file.write_text("def bump(x):\n    return x / 2\n")
    mf.run_sweep(mf.load_config(config), folder)
    file.write_text("def bump(x):\n    return x / 3\n")
    with pytest.raises(MeanFieldError, match=r"other versions: \S*mine.py:bump was .SHA-256 \w+"):
        mf.run_sweep(mf.load_config(config), folder)
    mf.run_sweep(mf.load_config(config), folder, overwrite=True)
    assert float(mf.open_results(folder / "own.zarr")["chi"][1]) == pytest.approx(2.5**2 / 9)


def test_workers_find_the_file_and_see_that_it_changed(folder):
    text = CONFIG.replace(CONFIG.splitlines()[1], 'activations = ["mine.py:bump"]')
    spec = mf.load_config(write(folder, text, "own"))
    sent = spec.model_dump_json()
    assert str(folder) not in sent + versions(spec)
    assert "mine.py:bump" in versions(spec)
    assert SweepSpec.model_validate_json(sent, context={FOLDER: folder}) == spec
    path = mf.run_sweep(spec, folder)
    cluster._opened.__wrapped__(str(path), sent, str(folder))
    (folder / "mine.py").write_text("def bump(x):\n    return x\n")
    with pytest.raises(MeanFieldError, match="a worker has other versions"):
        cluster._opened.__wrapped__(str(path), sent, str(folder))
    with pytest.raises(MeanFieldError, match=r"a worker cannot read the sweep: .*no Python file"):
        cluster._opened.__wrapped__(str(path), sent, "/")


def test_a_file_that_changes_meanwhile_changes_no_sweep(folder):
    """Nor does what Python kept of it: both contents have one size, and one second."""
    text = CONFIG.replace(CONFIG.splitlines()[1], 'activations = ["mine.py:bump"]')
    file, config = folder / "mine.py", write(folder, text, "own")
    file.write_text("def bump(x):\n    return x / 2\n")
    before = mf.load_config(config)
    file.write_text("def bump(x):\n    return x / 3\n")
    after = mf.load_config(config)
    assert before.activations[0].version != after.activations[0].version
    for spec, part in ((before, 2), (after, 3)):
        found = mf.open_results(mf.run_sweep(spec, folder / str(part)))
        np.testing.assert_allclose(found["chi"].sel(sigma_w=1.5), (1.5 / part) ** 2, rtol=1e-12)
    assert not (folder / "__pycache__").exists()


def test_a_store_may_move_with_its_config(folder, tmp_path_factory):
    text = CONFIG.replace(CONFIG.splitlines()[1], 'activations = ["mine.py:bump"]')
    (folder / "mine.py").write_text("def bump(x):\n    return x / 2\n")
    mf.run_sweep(mf.load_config(write(folder, text, "own")), folder)
    moved = tmp_path_factory.mktemp("moved") / "all"
    folder.rename(moved)
    mf.run_sweep(mf.load_config(moved / "own.toml"), moved)


def test_classes_in_files(folder):
    """An unregistered one is told what to do; annotations may be text."""
    (folder / "plain.py").write_text(
        "import meanfield as mf\nclass Plain(mf.Activation):\n    def __call__(self, x): return x\n"
    )
    with pytest.raises(MeanFieldError, match=r"register it: mf.register_activation"):
        load("plain.py:Plain", folder)
    text = MINE.format(name="annotated")
    (folder / "text.py").write_text(f"from __future__ import annotations\n{text}")
    assert list(load("text.py:SoftClip", folder).parameters()) == ["a"]


def test_nothing_else_is_executed(folder, capsys):
    """A config that names no file runs none, whatever lies beside it; a store runs none either."""
    (folder / "tanh.py").write_text("raise SystemExit(7)\n")
    text = CONFIG.replace(CONFIG.splitlines()[1], 'activations = ["tanh"]')
    mf.load_config(write(folder, text, "own"))
    path = mf.run_sweep(mf.load_config(write(folder, CONFIG, "own")), folder)
    (folder / "mine.py").write_text("raise SystemExit(7)\n")
    assert mf.open_results(path).sizes["activation"] == 4
    assert not ends("status", path)
    said = fails(capsys, "sweep", folder / "own.toml", "--out", folder)
    assert "raises SystemExit: 7" in said


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.py:phi", "is no Python file"),
        ("mine.py", "names no function"),
        ("mine.py:absent", "has no 'absent'; it has positive, bump, SoftClip"),
        ("mine.py:number", "must be a function"),
        ('mine.py:bump", a = 1, x = "', "must be a number"),
    ],
)
def test_mistakes_name_the_place(folder, capsys, name, told):
    text = CONFIG.replace(CONFIG.splitlines()[1], f'activations = [{{ name = "{name}" }}]')
    said = fails(capsys, "sweep", write(folder, text, "own"), "--out", folder / "out")
    assert told in said
    assert said.startswith("error: own.toml: activations.0")
    assert not (folder / "out").exists()


def test_parameters_that_are_not_there(folder):
    with pytest.raises(MeanFieldError, match="takes no parameters"):
        load("mine.py:bump", folder).make(a=1.0)
    with pytest.raises(MeanFieldError, match="has no parameter 'b'; it has: a"):
        load("mine.py:SoftClip", folder).make(b=1.0)
