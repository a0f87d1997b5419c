"""Whatever is typed: one or two lines on stderr, exit code 2, and nothing created."""

import contextlib
import re
import shutil

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_cli import fails

import meanfield as mf
from meanfield.cli.inputs import load_activation
from meanfield.errors import MeanFieldError
from meanfield.sweep.spec import SweepSpec, spec_of

GOOD = 'activations = ["hard_tanh"]\n[axes]\nsigma_w = [1, 2]\nsigma_b = 0.1\n'
CONFIGS = {
    "good.toml": GOOD,
    "empty.toml": "",
    "syntax.toml": "activations = [",
    "twice.toml": "activations = []\nactivations = []",
    "axis_text.toml": GOOD.replace("[1, 2]", '"wide"'),
    "axis_inf.toml": GOOD.replace("[1, 2]", "[1, inf]"),
    "axis_nan.toml": GOOD.replace("[1, 2]", "nan"),
    "axis_bool.toml": GOOD.replace("[1, 2]", '[1, "two"]'),
    "axis_date.toml": GOOD.replace("[1, 2]", "1979-05-27"),
    "axis_nested.toml": GOOD.replace("[1, 2]", "[[1], [2]]"),
    "axis_same.toml": GOOD.replace("[1, 2]", "[1, 1]"),
    "axis_one.toml": GOOD.replace("[1, 2]", "{ start = 1, stop = 2, num = 1 }"),
    "axis_many.toml": GOOD.replace("[1, 2]", "{ start = 1, stop = 2, num = 1000000000 }"),
    "axis_half.toml": GOOD.replace("[1, 2]", "{ start = 1, stop = 2, num = 2.5 }"),
    "axis_less.toml": GOOD.replace("[1, 2]", "{ start = 1, num = 3 }"),
    "axis_σ.toml": GOOD.replace("sigma_w", '"σ_w"'),
    "huge.toml": (
        'activations = ["shtanh"]\n[axes]\n'
        + "".join(
            f"{name} = {{ start = 1, stop = 2, num = 90000 }}\n"
            for name in ("sigma_w", "sigma_b", "a")
        )
    ),
    "large.toml": (
        'activations = ["tanh"]\n[axes]\n'
        + "".join(
            f"{name} = {{ start = 1, stop = 2, num = 99999 }}\n" for name in ("sigma_w", "sigma_b")
        )
    ),
    "phi_number.toml": GOOD.replace('["hard_tanh"]', "[3]"),
    "phi_text.toml": GOOD.replace('["hard_tanh"]', '"hard_tanh"'),
    "phi_unknown.toml": GOOD.replace("hard_tanh", "hard_tahn"),
    "phi_code.toml": GOOD.replace("hard_tanh", "__import__('os').system('touch pwned')"),
    "phi_nameless.toml": GOOD.replace('["hard_tanh"]', "[{ a = 1 }]"),
    "phi_wrong.toml": GOOD.replace('["hard_tanh"]', '[{ name = "hard_tanh", b = 1 }]'),
    "phi_negative.toml": GOOD.replace('["hard_tanh"]', '[{ name = "shtanh", a = -1 }]'),
    "ensemble.toml": 'ensemble = "uniform"\n' + GOOD,
    "method.toml": 'method = "magic"\n' + GOOD,
    "on.toml": 'on = "the_edge"\n' + GOOD,
    "observable.toml": 'observables = ["xi_d"]\n' + GOOD,
    "observables.toml": "observables = 3\n" + GOOD,
    "figures.toml": 'figures = ["murray2021-0"]\n' + GOOD,
    "checks.toml": 'checks = ["theorem"]\n' + GOOD,
    "title.toml": "title = 3\n" + GOOD,
    "a b.toml": GOOD,
}
# What is typed, and what is said.
CASES = {
    "no such command": (("swep",), "did you mean"),
    "no such option": (("sweep", "good.toml", "--overwrit"), "no such option"),
    "sweep nothing": (("sweep",), "CONFIG"),
    "sweep two": (("sweep", "good.toml", "good.toml"), "unexpected extra argument"),
    "no such config": (("sweep", "absent.toml"), "cannot be read"),
    "a folder as config": (("sweep", "folder.toml"), "cannot be read"),
    "a binary config": (("sweep", "binary.toml"), "is not TOML"),
    "no such name": (("sweep", "murray21"), "did you mean"),
    "an empty name": (("sweep", ""), "unknown config"),
    "out is a file": (("sweep", "good.toml", "--out", "text.zarr"), "cannot be written"),
    "out is in a file": (("sweep", "good.toml", "--out", "text.zarr/x"), "cannot be written"),
    "a store that is a file": (("sweep", "good.toml", "--out", "file"), "is no dataset"),
    "a store that is a folder": (("sweep", "good.toml", "--out", "other"), "is no dataset"),
    "not to be overwritten": (
        ("sweep", "good.toml", "--out", "other", "--overwrite"),
        "is no dataset",
    ),
    "a damaged store": (("sweep", "good.toml", "--out", "damaged"), "is no dataset"),
    "a store of something else": (("sweep", "good.toml", "--out", "foreign"), "is no dataset"),
    "method": (("sweep", "good.toml", "--method", "quadratur"), "method = 'quadratur'"),
    "method by table": (("sweep", "good.toml", "--method", ""), "method = ''"),
    "status of nothing": (("status",), "STORE"),
    "status of what is absent": (("status", "absent.zarr"), "does not exist"),
    "status of a file": (("status", "text.zarr"), "is no dataset"),
    "status of a folder": (("status", "folder.toml"), "is no dataset"),
    "status of a damaged store": (("status", "damaged/good.zarr"), "is no dataset"),
    "export to nothing": (("export", "ok/good.zarr"), "--to"),
    "export to a kind": (("export", "ok/good.zarr", "--to", "excel"), "unknown kind of file"),
    "export what is absent": (("export", "absent.zarr", "--to", "csv"), "does not exist"),
    "export over a file": (
        ("export", "ok/good.zarr", "--to", "csv", "--out", "good.toml"),
        "exists",
    ),
    "export into no folder": (
        ("export", "ok/good.zarr", "--to", "csv", "--out", "no/x.csv"),
        "cannot be written",
    ),
    "figure of nothing": (("figure",), "NAME"),
    "figure of a name": (("figure", "poole-1"), "unknown figure"),
    "figure of a file": (("figure", "tanh-phase", "--data", "good.toml"), "is no dataset"),
    "figure of too little": (("figure", "tanh-phase", "--data", "ok/good.zarr"), "lacks"),
    "reproduce nothing": (("reproduce", "poole"), "unknown config"),
    "list nothing": (("list",), "KIND"),
    "list a kind": (("list", "activation"), "did you mean activations"),
    "point without weights": (("point", "-a", "srelu"), "--sigma-w"),
    "point by a word": (("point", "-a", "tanh", "--sigma-w", "one"), "'one'"),
    "point by infinity": (("point", "-a", "tanh", "--sigma-w", "inf"), "sigma_w = inf"),
    "point by nan": (("point", "-a", "tanh", "--sigma-w", "nan"), "sigma_w = nan"),
    "point of negative biases": (
        ("point", "-a", "tanh", "--sigma-w", "1", "--sigma-b=-0.1"),
        "sigma_b = -0.1",
    ),
    "point from minus one": (("point", "-a", "tanh", "--sigma-w", "1", "--q0=-1"), "q0 = -1"),
    "point from infinity": (("point", "-a", "tanh", "--sigma-w", "1", "--q0", "inf"), "q0 = inf"),
    "point that keeps nothing": (("point", "-a", "tanh", "--sigma-w", "1", "--keep", "0"), "keep"),
    "point that keeps too much": (
        ("point", "-a", "tanh", "--sigma-w", "1", "--keep", "1.5"),
        "keep = 1.5",
    ),
    "an empty activation": (("point", "-a", "", "--sigma-w", "1"), "unknown activation ''"),
    "an activation in Greek": (("point", "-a", "φ", "--sigma-w", "1"), "unknown activation 'φ'"),
    "an activation in capitals": (("point", "-a", "GeLu", "--sigma-w", "1"), "did you mean gelu"),
    "a file without a function": (("point", "-a", "mine.py", "--sigma-w", "1"), "mine.py:function"),
    "a function that is absent": (("point", "-a", "mine.py:no", "--sigma-w", "1"), "has no 'no'"),
    "a file that is absent": (("point", "-a", "no.py:phi", "--sigma-w", "1"), "is no Python file"),
    "a file that is a folder": (("point", "-a", "dir.py:f", "--sigma-w", "1"), "is no Python file"),
    "a file that is broken": (("point", "-a", "bad.py:f", "--sigma-w", "1"), "SyntaxError"),
    "a function of two": (("point", "-a", "mine.py:two", "--sigma-w", "1"), "two is not legal"),
    "a function of text": (("point", "-a", "mine.py:text", "--sigma-w", "1"), "text is not legal"),
    "a parameter twice": (("edge", "-a", "relu", "-p", "a=1", "-p", "a=2"), "given twice"),
    "a parameter without value": (("edge", "-a", "shtanh", "-p", "a="), "must be name=number"),
    "a value without parameter": (("edge", "-a", "shtanh", "-p", "=2"), "must be name=number"),
    "a parameter that is a word": (("edge", "-a", "shtanh", "-p", "a=two"), "must be name=number"),
    "a parameter of nan": (("edge", "-a", "shtanh", "-p", "a=nan"), "a = nan"),
    "a parameter of infinity": (("edge", "-a", "shtanh", "-p", "a=inf"), "a = inf"),
    "a parameter of zero": (("edge", "-a", "shtanh", "-p", "a=0"), "a = 0"),
    "a parameter it has not": (("edge", "-a", "tanh", "-p", "a=1"), "no parameter 'a'"),
    "edge of infinite biases": (("edge", "-a", "tanh", "--sigma-b", "inf"), "sigma_b = inf"),
    "phase of half a range": (("phase", "tanh", "--sigma-w", "1:2"), "--sigma-w"),
    "phase of a word": (("phase", "tanh", "--sigma-w", "a:b:c"), "--sigma-w"),
    "phase downwards": (("phase", "tanh", "--sigma-w", "2:1:5"), "--sigma-w"),
    "phase of no points": (("phase", "tanh", "--sigma-w", "1:2:0"), "--sigma-w"),
    "phase of half a point": (("phase", "tanh", "--sigma-w", "1:2:2.5"), "--sigma-w"),
    "phase of negative weights": (("phase", "tanh", "--sigma-w=-1:2:5"), "0 <= start"),
    "phase of nan": (("phase", "tanh", "--sigma-w", "nan:2:5"), "sigma"),
    "phase of too many": (
        ("phase", "tanh", "--sigma-w", "1:2:90000", "--sigma-b", "1:2:90000"),
        "8100000000 points",
    ),
    "phase drawn nowhere": (("phase", "tanh", "--plot", "no/x.png"), "no directory"),
    "phase drawn as text": (("phase", "tanh", "--plot", "x.txt"), "must end in"),
    "phase kept over a store": (("phase", "tanh", "--data", "ok/good.zarr"), "is new"),
    "phase kept as csv": (("phase", "tanh", "--data", "x.csv"), "is new"),
    "describe nothing": (("describe", "tanhh"), "did you mean"),
    "describe at no variance": (("describe", "tanh", "--variance", "0"), "variance = 0"),
    "describe at nan": (("describe", "tanh", "--mean", "nan"), "mean = nan"),
    **{
        f"config {name}": (("sweep", name), "")
        for name in CONFIGS
        if name not in ("good.toml", "a b.toml")
    },
    "config a b.toml": (("sweep", "a b.toml"), "name"),
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with all that can be named wrongly."""
    base = tmp_path_factory.mktemp("desk")
    for name, text in CONFIGS.items():
        (base / name).write_text(text, encoding="utf-8")
    (base / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (base / "folder.toml").mkdir()
    (base / "dir.py").mkdir()
    (base / "text.zarr").write_text("no dataset")
    (base / "bad.py").write_text("def f(:\n")
    (base / "mine.py").write_text("def two(x, y):\n    return x\ndef text(x):\n    return 'x'\n")
    mf.run_sweep(mf.load_config(base / "good.toml"), base / "ok")
    (base / "file").mkdir()
    (base / "file" / "good.zarr").write_text("in the way")
    (base / "other" / "good.zarr").mkdir(parents=True)
    (base / "other" / "good.zarr" / "thesis.tex").write_text("all that I have")
    shutil.copytree(base / "ok", base / "damaged")
    (base / "damaged" / "good.zarr" / "zarr.json").write_text('{"zarr_format": 3')
    shutil.copytree(base / "ok", base / "foreign")
    file = base / "foreign" / "good.zarr" / "zarr.json"
    file.write_text(file.read_text().replace("meanfield-sweep", "another"))
    return base


def tree(folder):
    """Return what is in a folder; locks beside stores are no content."""
    return {
        path.relative_to(folder): path.stat().st_size
        for path in folder.rglob("*")
        if path.suffix != ".lock" and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("case", CASES)
def test_mistakes_cost_nothing(case, desk, capsys, monkeypatch):
    args, words = CASES[case]
    monkeypatch.chdir(desk)
    before = tree(desk)
    said = fails(capsys, *args)
    assert words.lower() in said.lower(), said
    lines = [line for line in said.strip().splitlines() if line.startswith("error: ")]
    assert 1 <= len(lines) <= 2, said
    assert "Traceback" not in said
    assert not re.search(r"pydantic|jax\.errors", said), said
    assert tree(desk) == before


def test_there_are_enough_cases():
    assert len(CASES) >= 100


API = {
    "text for a number": lambda: mf.Dense(mf.activation("tanh"), "one", 0.1),
    "a complex number": lambda: mf.Dense(mf.activation("tanh"), 1j, 0.1),
    "None": lambda: mf.Dense(mf.activation("tanh"), None, 0.1),
    "no activation": lambda: mf.Dense(None, 1.0, 0.1).variance(1.0),
    "shapes": lambda: mf.Dense(mf.activation("tanh"), np.ones(2), np.ones(3)).variance(1.0),
    "q0": lambda: mf.steady_state(mf.Dense(mf.activation("tanh"), 1.0, 0.1), -1.0),
    "correlation": lambda: mf.correlation_map(mf.Dense(mf.activation("tanh"), 1, 0.1), 1.0, 1.1),
    "a sweep of nothing": lambda: mf.load_config("nothing"),
    "a path of nothing": lambda: mf.open_results("/nowhere/x.zarr"),
    "an axis downwards": lambda: mf.phase_diagram(mf.activation("tanh"), [2.0, 1.0], [0.1]),
    "an axis of nan": lambda: mf.phase_diagram(mf.activation("tanh"), [np.nan], [0.1]),
}


@pytest.mark.parametrize("case", API)
def test_the_python_api_says_so_too(case):
    with pytest.raises(MeanFieldError) as caught:
        API[case]()
    assert 1 <= len(str(caught.value).splitlines()) <= 2


TOML = st.recursive(
    st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["tanh", "shtanh", "edge_of_chaos", "gaussian", "table", "log", "σ", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "a", "start", "stop", "num", "spacing", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)
KEYS = [*SweepSpec.model_fields, "extra"]
AXES = st.dictionaries(
    st.sampled_from(["sigma_w", "sigma_b", "weight_variance", "bias_variance", "a", "x"]), TOML
)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(KEYS), TOML, max_size=5), AXES)
def test_any_table_is_a_sweep_or_a_mistake(table, axes):
    with contextlib.suppress(MeanFieldError):
        assert spec_of({"activations": ["tanh"], "axes": axes} | table, "fuzz").axes


@settings(max_examples=100)
@given(st.text(max_size=60))
@example("activations = ['tanh']\naxes.sigma_w = 1\naxes.sigma_b = 1")
def test_any_text_is_a_config_or_a_mistake(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(MeanFieldError):
        assert mf.load_config(path).name == "fuzz"


@settings(max_examples=150)
@given(
    st.sampled_from(["tanh", "shtanh", "leaky_relu", "no"]) | st.text(max_size=12),
    st.lists(st.text(max_size=12) | st.sampled_from(["a=1", "a=nan", "a=1e400", "A=1", "a=1=2"])),
)
def test_any_parameter_is_one_or_a_mistake(name, params):
    with contextlib.suppress(MeanFieldError):
        assert callable(load_activation(name, params))
