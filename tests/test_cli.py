"""The command line as its users meet it: answers, tables, JSON, and mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import filelock
import numpy as np
import pytest
from typer.testing import CliRunner

import meanfield as mf
from meanfield import cli
from meanfield.cli.output import progress
from meanfield.errors import MeanFieldError

runner = CliRunner()

SMALL = """
title = "A small check of the theorem"
activations = ["shtanh"]
on = "edge_of_chaos"
observables = ["moment_ratio", "max_deviation", "max_deviation_full", "linear_width"]
figures = ["murray2021-9"]
checks = []
[axes]
a = [1, 2]
bias_variance = [0.01, 0.1]
"""


def run(*args):
    return runner.invoke(cli.app, [str(arg) for arg in args], catch_exceptions=True)


def ends(*args):
    """Run the whole program in this process; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["meanfield", *map(str, args)])
        patch.setenv("MEANFIELD_CACHE", "off")
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    return exit_.value.code


def fails(capsys, *args):
    """Run a command that must fail as a user's mistake; return what it says."""
    assert ends(*args) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
    return said.err


def test_help_needs_no_jax():
    code = (
        "import sys; sys.argv = ['meanfield', '--help']\n"
        "from meanfield.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'jax', 'xarray', 'matplotlib', 'zarr', 'numpy', 'scipy', 'pandas'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("list", "point", "edge", "sweep", "figure", "reproduce"):
        assert command in done.stdout


def test_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "meanfield", "edge", "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MEANFIELD_CACHE": "off"},
    )
    assert done.returncode == 0
    assert "--sigma-b" in done.stdout


def test_completion_script_is_offered():
    done = subprocess.run(
        [Path(sys.executable).with_name("meanfield"), "--show-completion", "bash"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    assert "_MEANFIELD_COMPLETE" in done.stdout.upper()


def test_edge_prints_json_with_the_names_of_the_api():
    result = run("edge", "--activation", "shtanh", "-p", "a=2", "--sigma-b", "0.3", "--json")
    record = json.loads(result.stdout)
    point = mf.edge_of_chaos(mf.activation("shtanh", a=2.0), 0.3)
    assert record["status"] == "OK"
    for name in ("q", "sigma_w", "slope"):
        assert record[name] == pytest.approx(float(getattr(point, name)), rel=1e-12)


def test_edge_that_does_not_exist_says_so():
    result = run("edge", "-a", "softplus", "--sigma-b", "0.1", "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert record["status"] == "NO_SOLUTION"
    assert record["q"] is None


def test_point_prints_json():
    record = json.loads(
        run("point", "-a", "relu", "--sigma-w", 1, "--sigma-b", 0.5, "--json").stdout
    )
    assert record["q"] == pytest.approx(0.5, rel=1e-13)
    assert record["chi"] == pytest.approx(0.5, rel=1e-13)
    assert record["c"] == 1.0
    assert record["moment_ratio"] == pytest.approx(2.0, rel=1e-13)
    assert record["phase"] == "ordered"


def test_point_that_diverges_is_no_number():
    record = json.loads(
        run("point", "-a", "relu", "--sigma-w", 2, "--sigma-b", 0.5, "--json").stdout
    )
    assert record["status"] == "DIVERGES"
    assert record["q"] is None
    assert record["phase"] is None


def test_point_from_another_start_and_with_dropout():
    options = ("point", "-a", "gelu", "--sigma-w", 1.6, "--sigma-b", 0.05)
    assert "from another --q0 it may not" in run(*options).stdout
    record = json.loads(run(*options, "--q0", 0.1, "--json").stdout)
    assert (record["status"], record["phase"], record["q0"]) == ("OK", "ordered", 0.1)
    options = ("point", "-a", "tanh", "--sigma-w", 1.3, "--sigma-b", 0.3, "--keep", 0.9, "--json")
    record = json.loads(run(*options).stdout)
    layer = mf.Dense(mf.activation("tanh"), 1.3, 0.3, keep=0.9)
    assert record["c"] == pytest.approx(float(mf.correlation_fixed_point(layer).c), rel=1e-13)
    assert "dropout" in record["phase"]


def test_point_prints_a_table():
    result = run("point", "-a", "relu", "--sigma-w", 1, "--sigma-b", 0.5)
    assert "ordered" in result.stdout
    assert "0.5" in result.stdout


@pytest.mark.parametrize("kind", cli.KINDS)
def test_list(kind):
    result = run("list", kind)
    assert result.exit_code == 0
    expected = {
        "activations": mf.activations.activations,
        "observables": ["moment_ratio"],
        "figures": ["murray2021-1", "murray2021-9"],
        "configs": ["murray2021", "tanh_phase", "murray2021_hard_tanh"],
    }[kind]
    for name in expected:
        assert name in result.stdout


def test_activation_from_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import jax.numpy as jnp\ndef clipped(x):\n    return jnp.clip(x, -2, 2)\n")
    mine = json.loads(run("edge", "-a", f"{file}:clipped", "--sigma-b", 0.3, "--json").stdout)
    own = mf.edge_of_chaos(mf.activation("shtanh", a=2.0), 0.3)
    assert mine["q"] == pytest.approx(float(own.q), rel=1e-12)


def test_activation_object_from_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import meanfield as mf\nphi = mf.centre(mf.activation('srelu'))\n")
    record = json.loads(run("edge", "-a", f"{file}:phi", "--sigma-b", 0.2, "--json").stdout)
    assert record["status"] == "OK"


def test_activation_class_from_a_file_takes_parameters(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from meanfield.activations import Shtanh\n")
    args = ("edge", "-a", f"{file}:Shtanh", "--sigma-b", 0.3, "--json")
    record = json.loads(run(*args, "-p", "a=2").stdout)
    own = mf.edge_of_chaos(mf.activation("shtanh", a=2.0), 0.3)
    assert record["q"] == pytest.approx(float(own.q), rel=1e-12)
    assert isinstance(run(*args, "-p", "b=2").exception, MeanFieldError)


def test_a_steep_function_is_answered(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text("import numpy as np\ndef steep(x):\n    return np.tanh(1e6 * x)\n")
    assert not ends("edge", "-a", f"{file}:steep", "--sigma-b", 0.3, "--json")
    said = capsys.readouterr()
    assert said.err == ""
    record = json.loads(said.out)
    # E tanh² is 1 but for 1e-6, and E φ'² = 4e6/(3 √(2πq)).
    assert record["status"] == "OK"
    assert record["sigma_w"] ** -2 * (2 * np.pi * record["q"]) ** 0.5 == pytest.approx(
        4e6 / 3, rel=1e-4
    )


def test_sweep_figure_and_reproduce(tmp_path):
    config = tmp_path / "small.toml"
    config.write_text(SMALL, encoding="utf-8")
    result = run("sweep", config, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "4 points OK" in result.stdout
    assert "4 of 4 points" in result.stderr
    result = run("reproduce", config, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "figures" / "murray2021-9.pdf").stat().st_size > 1000
    result = run("figure", "murray2021-9", "--out", tmp_path / "drawn")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "drawn" / "murray2021-9.png").stat().st_size > 1000


def test_sweep_status_and_export(tmp_path):
    config = tmp_path / "small.toml"
    config.write_text(SMALL, encoding="utf-8")
    out, store = tmp_path / "out", tmp_path / "out" / "small.zarr"
    result = run("sweep", config, "--out", out)
    assert "small: 4 points, 9 variables, 292 B" in result.stderr
    result = run("status", store, "--json")
    record = json.loads(result.stdout)
    assert (record["points"], record["done"], record["ok"], record["left"]) == (4, 4, 4, 0)
    assert not record["running"]
    assert "small.zarr: finished" in run("status", store).stdout
    chunk = next(file for file in (store / "status" / "c").rglob("*") if file.is_file())
    chunk.unlink()
    result = run("status", store)
    assert "small.zarr: not running" in result.stdout
    result = run("sweep", config, "--out", out)
    assert result.exit_code == 0, result.output
    result = run("export", store, "--to", "csv")
    assert result.exit_code == 0, result.output
    assert len((out / "small.csv").read_text().splitlines()) == 6
    config.write_text(SMALL.replace('["shtanh"]', '["ssaw"]'), encoding="utf-8")
    result = run("sweep", config, "--out", out, "--overwrite")
    assert result.exit_code == 0, result.output


def test_chunks_that_fail_are_told(tmp_path, monkeypatch):
    from meanfield.sweep import grid

    def broken(*_):
        raise ArithmeticError("out of luck")

    config = tmp_path / "small.toml"
    config.write_text(SMALL, encoding="utf-8")
    out, store = tmp_path / "out", tmp_path / "out" / "small.zarr"
    monkeypatch.setattr(grid, "evaluate", broken)
    result = run("sweep", config, "--out", out)
    monkeypatch.undo()
    assert result.exit_code == 1
    assert "4 points FAILED" in result.stdout
    assert "ArithmeticError: out of luck" in result.stderr
    assert "out of luck" in run("status", store).stdout
    assert run("sweep", config, "--out", out).exit_code == 1
    result = run("sweep", config, "--out", out, "--retry-failed")
    assert result.exit_code == 0, result.output
    assert "4 points OK" in result.stdout


def test_reproduce_reports_the_theorem_and_a_violation_fails(tmp_path, monkeypatch):
    config = tmp_path / "small.toml"
    config.write_text(
        SMALL.replace("checks = []", 'checks = ["scaled_bounded_theorem"]')
        .replace('["shtanh"]', '["shtanh", "ssaw"]')
        .replace('figures = ["murray2021-9"]', ""),
        encoding="utf-8",
    )
    result = run("reproduce", config, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "scaled_bounded_theorem: holds; 0 violations" in result.stdout
    assert "(15)" in result.stdout
    assert "S5" in result.stdout

    from meanfield import bounds

    honest = bounds.scaled_bounded

    def too_strict(y):
        theorem = honest(y)
        object.__setattr__(theorem, "correlation", np.asarray(theorem.correlation) / 10)
        return theorem

    monkeypatch.setattr(bounds, "scaled_bounded", too_strict)
    result = run("reproduce", config, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "violated: shtanh (15)" in result.stdout
    assert "'a': 1.0" in result.stdout


def test_mistakes_are_one_or_two_lines_and_exit_code_2(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "import math\ndef scalar(x):\n    return math.tanh(x)\nraise_ = 1\ndef same(x): return x\n"
    )
    broken = tmp_path / "broken.py"
    broken.write_text("1/0")
    text = tmp_path / "text.zarr"
    text.write_text("no dataset")
    unknown = tmp_path / "unknown.toml"
    unknown.write_text(SMALL.replace("murray2021-9", "murray2021-99"))
    poor = tmp_path / "poor.toml"
    poor.write_text(
        SMALL.replace("checks = []", 'checks = ["scaled_bounded_theorem"]').replace(
            '"max_deviation", ', ""
        )
    )
    undrawn = tmp_path / "undrawn.toml"
    undrawn.write_text(SMALL.replace("murray2021-9", "tanh-phase"))
    blocked = tmp_path / "blocked"
    blocked.write_text("in the way")
    cases = [
        (("edge", "-a", "tahn"), "unknown activation 'tahn'; did you mean tanh"),
        (("edge", "-a", "tanh", "--sigma-b", "-1"), "sigma_b = -1.0 is not legal"),
        (("edge", "-a", "tanh", "--sigma-b", "nan"), "sigma_b = nan is not legal"),
        (("point", "-a", "tanh", "--sigma-w", "-1"), "sigma_w = -1.0 is not legal"),
        (("point", "-a", "tanh", "--sigma-w", "1", "--q0", "0"), "q0 = 0.0 is not legal"),
        (("edge", "-a", "ssin", "-p", "a=0.5"), "a = 0.5 is not legal; it must be >= 1"),
        (("edge", "-a", "tanh", "-p", "a=2"), "tanh has no parameter 'a'"),
        (("edge", "-a", "shtanh", "-p", "a"), "must be name=number"),
        (("edge", "-a", "shtanh", "-p", "a=x"), "must be name=number"),
        (("edge", "-a", f"{file}:absent"), "has no 'absent'"),
        (("edge", "-a", f"{file}:scalar"), "scalar is not legal"),
        (("edge", "-a", f"{file}:raise_"), "must be a function"),
        (("edge", "-a", f"{broken}:f"), "raises ZeroDivisionError"),
        (("edge", "-a", f"{tmp_path}/none.py:f"), "is no Python file"),
        (("edge", "-a", f"{file}:same", "-p", "a=1"), "takes no parameters"),
        (("list", "activation"), "unknown kind 'activation'; did you mean activations"),
        (("sweep", "muray2021"), "did you mean murray2021"),
        (("sweep", unknown, "--out", tmp_path), "unknown figure 'murray2021-99'"),
        (("reproduce", poor, "--out", tmp_path), "scaled_bounded_theorem needs max_deviation"),
        (("reproduce", undrawn, "--out", tmp_path), "figure tanh-phase needs"),
        (("figure", "murray-9"), "unknown figure"),
        (("figure", "murray2021-4", "--data", text, "--out", tmp_path), "is no dataset"),
        (("figure", "murray2021-4", "--data", text, "--out", tmp_path / "new"), "is no dataset"),
        (("phase", "tanh", "--method", "magic"), "method = 'magic' is not legal"),
        (("phase", "tanh", "--q0", "0"), "q0 = 0.0 is not legal"),
        (("phase", "tanh", "--sigma-w", "0:1:9999", "--sigma-b", "0:1:9999"), "99980001 points"),
        (("simulate", "relu", "--sigma-w", "2"), "--q must be given"),
        (("figure", "murray2021-9", "--out", blocked / "x"), "cannot be written"),
        (("reproduce", "murray2021", "--out", blocked / "x"), "cannot be written"),
    ]
    for args, message in cases:
        said = fails(capsys, *args)
        assert message in said, (args, said)
        assert 1 <= len(said.strip().splitlines()) <= 2, said
    assert not (tmp_path / "new").exists()


def test_typer_reports_missing_options_with_exit_code_2(capsys):
    assert "store" in fails(capsys, "status").lower()
    assert "invalid" in fails(capsys, "edge", "-a", "tanh", "--sigma-b", "x").lower()


def test_compilation_cache_can_be_moved_and_turned_off(tmp_path, monkeypatch):
    names = ["JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]
    names.append("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES")
    for name in names:
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MEANFIELD_CACHE", "off")
    cli.use_compilation_cache()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    monkeypatch.setenv("MEANFIELD_CACHE", str(tmp_path))
    cli.use_compilation_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"].startswith(str(tmp_path))


def test_errors_of_ours_are_not_swallowed(monkeypatch):
    def broken(**_):
        raise RuntimeError("ours")

    monkeypatch.setattr(cli, "app", broken)
    monkeypatch.setenv("MEANFIELD_CACHE", "off")
    with pytest.raises(RuntimeError, match="ours"):
        cli.main()


def test_errors_name_what_is_wrong():
    with pytest.raises(MeanFieldError, match=r"written with jax\.numpy"):
        mf.from_callable(lambda x: np.tanh(x) if x > 0 else x)


def test_typer_errors_are_one_line_too(capsys):
    assert "kind" in fails(capsys, "list").lower()
    assert "'abc'" in fails(capsys, "edge", "-a", "tanh", "--sigma-b", "abc")
    assert "'abc'" in fails(capsys, "edge", "-a", "tanh", "--sigma-b=abc")
    assert "did you mean" in fails(capsys, "lsit").lower()
    assert "given twice" in fails(capsys, "edge", "-a", "relu", "-p", "a=2", "-p", "a=3")
    assert "my.py:function" in fails(capsys, "edge", "-a", "my.py")
    assert "tanh" in fails(capsys, "edge", "-a", "TANH")


def test_the_version_is_shown():
    result = runner.invoke(cli.app, ["--version"])
    assert mf.__version__ in result.output
    assert result.exit_code == 0
    assert result.output.startswith("meanfield ")


def test_half_written_kernels_are_deleted(tmp_path, monkeypatch):
    for name in ("DIR", "MAX_SIZE"):
        monkeypatch.setenv(f"JAX_COMPILATION_CACHE_{name}", "x")
    monkeypatch.setenv("MEANFIELD_CACHE", str(tmp_path))
    cli.use_compilation_cache()
    (directory,) = tmp_path.iterdir()
    for name in ("whole-cache", "whole-atime", "half-cache"):
        (directory / name).touch()
    with filelock.FileLock(directory / ".lockfile"):
        # Others are at work: an entry without a time may be about to get one.
        cli.use_compilation_cache()
        assert (directory / "half-cache").exists()
    cli.use_compilation_cache()
    names = sorted(path.name for path in directory.iterdir() if path.name != ".lockfile")
    assert names == ["whole-atime", "whole-cache"]


def test_runs_at_the_same_time_share_their_kernels(tmp_path):
    program = (
        "from meanfield.cli.cache import use_compilation_cache; use_compilation_cache(); "
        "import jax; print(jax.jit(lambda x: x + 1)(1.0))"
    )
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "MEANFIELD_CACHE": str(tmp_path)}
    runs = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    answers = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert len({out for out, _ in answers}) == 1
    assert all("cache" not in err for _, err in answers)
    entries = {path.name.rpartition("-")[0] for path in tmp_path.glob("*/*-cache")}
    times = {path.name.rpartition("-")[0] for path in tmp_path.glob("*/*-atime")}
    assert entries == times != set()


def test_the_bar_of_a_terminal_shows_workers_rate_and_failures(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("title", "points") as show:
        show(0, 100, "2 workers")
        show(50, 100, "3 workers", "7 failed")
    said = capsys.readouterr().err
    for words in ("title", "50/100", "points", "3 workers", "7 failed"):
        assert words in said
