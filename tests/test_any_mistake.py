"""Invented mistakes, over every option of every command: a line or two, and exit code 2."""

import contextlib
import io
import sys
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from meanfield import cli

PROGRAM: Any = typer.main.get_command(cli.app)
COMMANDS = PROGRAM.commands
# What is typed where nothing is wrong; a mistake is added, and the last of two values counts.
GOOD = {
    "list": ["activations"],
    "point": ["tanh", "--sigma-w", "1.5"],
    "describe": ["tanh"],
    "recommend": ["tanh", "--depth", "3"],
    "init": ["tanh", "--framework", "jax"],
    "spectrum": ["tanh", "--sigma-w", "1.5", "--depth", "2"],
    "simulate": ["tanh", "--sigma-w", "1.5", "--networks", "2"],
    "edge": ["tanh", "--sigma-b", "0.3"],
    "sweep": ["good.toml"],
    "status": ["text.zarr"],
    "export": ["text.zarr", "--to", "csv"],
    "train": ["absent.toml"],
    "phase": ["tanh", "--sigma-w", "1:2:2", "--sigma-b", "0:1:2"],
    "figure": ["tanh-phase"],
    "reproduce": ["good.toml"],
}
NAMES = ["", "tahn", "φ", "no.py:f", "no.py", "TANH", "tanh; ls", "'"]
POSITIVE = ["x", "nan", "inf", "-inf", "0", "-1", "1e999", ""]
NOT_NEGATIVE = ["x", "nan", "inf", "-1e-9", "1,5", ""]
COUNTS = ["x", "0", "-1", "1.5", ""]
CHOICES = ["", "x", "GAUSSIAN", "auto "]
RANGES = ["", "a:b:c", "2:1:3", "-1:1:2", "1:2", "1:2:0", "1:2:2:2", "nan", "1:inf:2"]
MEMORIES = ["", "all", "-1GiB", "1 potato"]
CONFIGS = ["", "absent.toml", "murray21", "."]
WRONG = {
    "activation": NAMES,
    "named": NAMES,
    "param": ["", "a", "=1", "a=x", "zz=1", "a=1=2"],
    "sigma_w": NOT_NEGATIVE,
    "sigma_b": NOT_NEGATIVE,
    ("phase", "sigma_w"): RANGES,
    ("phase", "sigma_b"): RANGES,
    "q0": POSITIVE,
    "q": POSITIVE,
    "keep": [*POSITIVE, "1.5"],
    "depth": COUNTS,
    ("spectrum", "depth"): [*POSITIVE, "0.5"],
    "width": COUNTS,
    "widths": ["", "3", "3,x", "3,,4", "0,4"],
    "ensemble": CHOICES,
    "distribution": CHOICES,
    "method": CHOICES,
    "framework": CHOICES,
    "c": ["x", "2", "-1.1", "nan", ""],
    "networks": [*COUNTS, "1"],
    "seed": ["x", "-1", "0.5", ""],
    "memory": MEMORIES,
    "plot": ["", "x.gif", "no/x.png", "x"],
    ("phase", "data"): ["", "x.csv", "no/x.zarr"],
    ("figure", "data"): ["", "absent.zarr", "good.toml"],
    "free": ["", "zz"],
    "mean": ["x", "nan", "inf", ""],
    "variance": POSITIVE,
    "second_moment": POSITIVE,
    "kind": ["", "activation", "x"],
    "config": CONFIGS,
    "store": ["", "absent.zarr", "good.toml", "."],
    ("figure", "name"): ["", "tanh", "murray"],
    ("reproduce", "name"): CONFIGS,
    "to": ["", "excel"],
    ("init", "out"): ["", ".", "good.toml", "text.zarr/x", "no/x.py"],
    ("sweep", "out"): ["text.zarr", "text.zarr/x"],
    ("figure", "out"): ["text.zarr", "text.zarr/x"],
    ("reproduce", "out"): ["text.zarr", "text.zarr/x"],
    "workers": ["x", "0", "-1", "1.5", ""],
    "slurm": [None],
}
# Every value of these is legal, or it takes a network or a training to tell.
FREE = {
    *(("sweep", name) for name in ("overwrite", "retry_failed", "scheduler")),
    *(("train", name) for name in ("out", "folder", "overwrite")),
    ("reproduce", "folder"),
    ("export", "out"),
}


def wrong(command, name) -> Any:
    return WRONG.get((command, name), WRONG.get(name))


PLACES = [
    (command, one)
    for command in COMMANDS
    for one in COMMANDS[command].params
    if one.name not in ("help", "as_json")
]
MISTAKES = [(command, one) for command, one in PLACES if wrong(command, one.name)]


def test_every_option_has_mistakes():
    missing = {(command, one.name) for command, one in PLACES} - FREE
    missing -= {(command, one.name) for command, one in MISTAKES}
    assert not missing


@st.composite
def typed(draw):
    command, one = draw(st.sampled_from(MISTAKES))
    value = draw(st.sampled_from(wrong(command, one.name)))
    good = GOOD[command]
    if one.param_type_name == "argument":
        return [command, *good[1:], "--", value]
    flag = draw(st.sampled_from(one.opts))
    if value is None:
        return [command, *good, flag]
    return [command, *good, f"{flag}={value}" if flag.startswith("--") else f"{flag}{value}"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("mistakes")
    (place / "text.zarr").write_text("no dataset")
    (place / "good.toml").write_text('activations = ["tanh"]\naxes.sigma_w = 1\naxes.sigma_b = 1\n')
    return place


@settings(max_examples=200)
@given(args=typed())
def test_a_mistake_is_a_line_or_two(folder, args):
    before = sorted(path.name for path in folder.iterdir())
    said, out = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(out),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", ["meanfield", *args])
        patch.setenv("MEANFIELD_CACHE", "off")
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    assert exit_.value.code == 2, (args, said.getvalue(), out.getvalue())
    lines = said.getvalue().splitlines()
    assert 1 <= len([line for line in lines if line.startswith("error: ")]) <= 2, lines
    assert len(lines) <= 3, lines
    assert "Traceback" not in said.getvalue()
    assert out.getvalue() == ""
    assert sorted(path.name for path in folder.iterdir()) == before
