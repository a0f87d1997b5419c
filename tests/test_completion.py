"""What a shell offers after TAB."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from meanfield.activations import activations
from meanfield.cli import completion
from meanfield.cli.init import SNIPPETS
from meanfield.init import Distribution
from meanfield.layers import Ensemble
from meanfield.method import METHODS
from meanfield.plots import figures
from meanfield.shipped import shipped, training_names
from meanfield.sweep.export import KINDS


def test_names_are_those_that_are_registered():
    assert completion.activation_names() == sorted(activations)
    assert completion.figure_names() == sorted(figures)
    assert set(completion.FRAMEWORKS) == set(SNIPPETS)
    assert set(completion.ENSEMBLES) == set(get_args(Ensemble))
    assert {*completion.DISTRIBUTIONS, "delta_orthogonal"} == set(get_args(Distribution))
    assert set(completion.METHODS) == set(METHODS)
    assert set(completion.FILES) == set(KINDS)


def test_names_that_begin_so_are_offered():
    assert completion.among(completion.activation_names)("gelu") == ["gelu", "gelu_tanh"]
    assert completion.among(("torch", "flax"))("t") == ["torch"]


def test_configs_and_toml_files_are_offered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "murray_mine.toml").touch()
    (tmp_path / "murray.txt").touch()
    found = completion.complete_config("murray")
    assert found == [n for n in shipped() if n.startswith("murray")] + ["murray_mine.toml"]
    trainings = [name for name in training_names() if name.startswith("train")]
    assert completion.complete_training("train") == trainings
    assert completion.complete_config(f"{tmp_path}/murray_") == [f"{tmp_path}/murray_mine.toml"]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("point ge", {"gelu", "gelu_tanh"}),
        ("init tanh --framework f", {"flax"}),
        ("list ", set(completion.KINDS)),
    ],
)
def test_a_shell_is_answered_without_jax(typed, offered):
    code = (
        "import sys; sys.argv = ['meanfield']\n"
        "from meanfield.cli import app\n"
        "try:\n    app(prog_name='meanfield')\n"
        "finally:\n"
        "    heavy = {'jax', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "    print(f'heavy: {heavy}', file=sys.stderr)\n"
    )
    words = f"meanfield {typed}"
    environment = {
        **os.environ,
        "_MEANFIELD_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    assert set(done.stdout.split()) == offered, done.stderr
    assert "heavy: set()" in done.stderr
