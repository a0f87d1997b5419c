"""Problems with known answers, tagged by what makes them hard, and kernels that solve them.

The reference records come from an independent 40-digit oracle (`oracles.py`); `tags` says what
is difficult about each. Every activation class is compiled once for all its records:
`solved_moments` and `solved_pairs` return a whole table of answers and are cached, so that the
tests which ask whether they are *accurate* and *honest* share the work.
"""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import meanfield as mf
from meanfield._elementwise import elementwise
from meanfield.activations import activations

REFERENCE = Path(__file__).parent / "reference"
NAMES = tuple(dict.fromkeys(cls.name for cls in activations.values()))
"""Every built-in activation once, without aliases."""

Record = dict[str, Any]

# Where "unresolved" is a legitimate answer: φ oscillates or is sharp beyond any fixed rule.
MAY_BE_UNRESOLVED = {("ssin", "30"), ("gaussian", "1e4")}


@functools.cache
def records(table: str) -> dict[str, tuple[Record, ...]]:
    """Return the reference records of "moments" or "pairs", by activation."""
    entries = json.loads((REFERENCE / f"{table}.json").read_text())
    return {name: tuple(r for r in entries if r["activation"] == name) for name in NAMES}


def tags(record: Record) -> set[str]:
    """Return what is difficult about a reference record."""
    q = [float(record[key]) for key in ("q", "q1", "q2") if key in record]
    c = float(record.get("c", 0))
    marks = {
        "kinked": bool(mf.activation(record["activation"]).kinks()),
        "small q": min(q) < 1e-2,
        "large q": max(q) > 50,
        "unequal q": min(q) != max(q),
        "near c = 1": 1 - c < 1e-6,
        "near c = -1": 1 + c < 1e-6,
    }
    return {mark for mark, holds in marks.items() if holds}


def column(table: Sequence[Record], key: str) -> np.ndarray:
    """Return one column of records as numbers; NaN where a value is not given."""
    return np.array([np.nan if r[key] is None else float(r[key]) for r in table])


def stacked(table: Sequence[Record]) -> mf.Activation:
    """Return the activation of records of one name, each parameter an array over them."""
    keys = table[0]["params"]
    return mf.activation(
        table[0]["activation"],
        **{key: np.array([float(r["params"][key]) for r in table]) for key in keys},
    )


@elementwise(host=True)
def _moments(phi: mf.Activation, q: Any) -> dict[str, jax.Array]:
    return {
        "E0": phi.mean(q),
        "E2": phi.second_moment(q),
        "D1": phi.slope_moment(q, 1),
        "D2": phi.slope_moment(q, 2),
        "D4": phi.slope_moment(q, 4),
        "V1": phi.variance_slope(q),
        "deficit": phi.edge_deficit(q),
    }


@elementwise(host=True)
def _pairs(phi: mf.Activation, q1: Any, q2: Any, epsilon: Any) -> dict[str, jax.Array]:
    return {
        "PP": phi.covariance(q1, q2, epsilon),
        "DD": phi.slope_covariance(q1, q2, epsilon),
        "quotient": phi.decorrelation(q1, epsilon),
    }


@functools.cache
def solved_moments(name: str) -> dict[str, np.ndarray]:
    """Return the package's answers to all moment records of an activation."""
    table = records("moments")[name]
    return jax.tree.map(np.asarray, _moments(stacked(table), column(table, "q")))


# Beside the records, every activation is solved at q = 1 and these ε: it must tend to E φ'².
VANISHING = np.array([1e-8, 1e-60, 1e-200])


@functools.cache
def _solved_pairs(name: str) -> dict[str, np.ndarray]:
    table = records("pairs")[name]
    extra = (*table, *[table[0]] * len(VANISHING))
    ones = np.ones_like(VANISHING)
    columns = zip(("q1", "q2", "eps"), (ones, ones, VANISHING), strict=True)
    arguments = (np.concatenate([column(table, key), last]) for key, last in columns)
    return jax.tree.map(np.asarray, _pairs(stacked(extra), *arguments))


def solved_pairs(name: str) -> dict[str, np.ndarray]:
    """Return the package's answers to all pair records of an activation."""
    return {key: values[: -len(VANISHING)] for key, values in _solved_pairs(name).items()}


def solved_limits(name: str) -> np.ndarray:
    """Return E (φ(u1) - φ(u2))² / (2qε) at q = 1 and ε = `VANISHING`, for the first parameters."""
    return _solved_pairs(name)["quotient"][-len(VANISHING) :]


def central_difference(f: Callable[[float], Any], x: float, step: float = 1e-4) -> float:
    """Return f'(x) by a central difference of fourth order."""
    far, near = f(x + 2 * step) - f(x - 2 * step), f(x + step) - f(x - step)
    return float((8 * near - far) / (12 * step))


def dense(name: str, weight_variance: Any, bias_variance: Any, **params: Any) -> mf.Dense:
    """Return a dense layer from the variances, which is how the literature tabulates them."""
    return mf.Dense(mf.activation(name, **params), np.sqrt(weight_variance), np.sqrt(bias_variance))
