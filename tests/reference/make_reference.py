"""Regenerate the reference data: ``python make_reference.py [TABLE...] [--only NAME]``.

Needs mpmath and numpy; writes ``moments.json``, ``pairs.json`` and ``separations.json`` next to
this file and takes about 20 minutes.  Apart from some closed forms and the separations, every
value is computed twice, by two rules or two routes, and the command stops where they disagree.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Container, Iterator
from decimal import Context, Decimal
from pathlib import Path

import numpy as np
from mpmath import mp, mpf

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import oracles  # noqa: E402

Params = dict[str, str]

VARIANCES = ("1e-6", "1e-3", "0.1", "1", "10", "100", "1e4")

MOMENT_PARAMS: dict[str, list[Params]] = {name: [{}] for name in oracles.PHI} | {
    "leaky_relu": [{"negative_slope": r} for r in ("0.01", "0.2")],
    "hard_tanh": [{"a": a} for a in ("1", "0.5", "3")],
    "shtanh": [{"a": a, "k": k} for a, k in (("1", "1"), ("2", "1.5"), ("0.5", "2"))],
    "ssin": [{"a": a} for a in ("1", "3")],
    "sexp": [{"a": a} for a in ("1", "0.5", "3")],
    "ssaw": [{"a": a} for a in ("1", "0.5", "3")],
    "softplus": [{"beta": b} for b in ("1", "0.3", "20")],
    "elu": [{"alpha": a} for a in ("1", "0.5", "2")],
    "celu": [{"alpha": a} for a in ("1", "0.5", "2")],
    "swish": [{"beta": b} for b in ("1", "0.3", "20")],
    "srelu": [{"delta": d} for d in ("1", "0.01", "3")],
}


PAIR_VARIANCES = (("0.01", "0.01"), ("1", "1"), ("30", "30"), ("1e4", "1e4"), ("0.5", "4"))

NEAR_MINUS_ONE = Decimal(-1 + 1e-9)
"""The binary number itself, so that reading c as a float loses nothing where it matters."""

CORRELATIONS = (
    ("-1", "2"),
    (str(NEAR_MINUS_ONE), str(Context(prec=80).subtract(1, NEAR_MINUS_ONE))),
    ("-0.5", "1.5"),
    ("0", "1"),
    ("0.3", "0.7"),
    ("0.9", "0.1"),
    ("0.999", "0.001"),
    ("0.999999999", "1e-9"),
    ("1", "0"),
)
"""Correlation c and eps = 1 - c."""

PAIR_PARAMS: dict[str, list[Params]] = {name: [{}] for name in oracles.PHI} | {
    "leaky_relu": [{"negative_slope": "0.2"}],
    "hard_tanh": [{"a": "1"}, {"a": "0.3"}],
    "shtanh": [{"a": "2", "k": "1.5"}],
    "ssin": [{"a": "1"}],
    "sexp": [{"a": "1"}],
    "ssaw": [{"a": "1"}],
    "elu": [{"alpha": "1"}, {"alpha": "2"}],
    "celu": [{"alpha": "0.5"}],
    "srelu": [{"delta": "1"}],
}


SEPARATION_PARAMS: dict[str, Params] = {
    "relu": {},
    "hard_tanh": {},
    "shtanh": {"a": "0.7"},
    "ssaw": {},
}

SEPARATIONS = (
    (1.0, 1 + 1e-9, 1e-12, 1.0),
    (1.0, 1 + 1e-9, 0.0, 1.0),
    (2.0, 2 * (1 + 1e-6), 1e-12, 1.0),
    (1.0, 1 + 1e-5, 1e-10, 1 + 1e-7),
    (1.0, 1e-9, 0.3, 1.0),
    (1e-6, 1e6, 0.5, 1.0),
    (1e6, 1e6 * (1 + 1e-9), 1e-12, 1.0),
    (5.0, 0.3, 2.0, 1.0),
    (0.7, 0.9, 1.0, 0.5),
)
"""q1, q2, ε, and t in units of 1/√E φ(u2)²."""


def agree(name: str, first: mpf, second: mpf, tolerance: float, floor: float = 0.0) -> None:
    """Raise unless two values agree to a relative tolerance, or absolutely within floor."""
    gap = abs(first - second)
    if not gap <= max(tolerance * abs(second), floor):
        raise ArithmeticError(f"{name}: {mp.nstr(first, 25)} against {mp.nstr(second, 25)}")


def moment_records(names: Container[str]) -> Iterator[dict]:
    """Yield one record for every named activation, parameter set and variance."""
    mp.dps = 40
    for name, choices in MOMENT_PARAMS.items():
        for params in choices if name in names else ():
            act = oracles.build(name, **params)
            for q in VARIANCES:
                if name in oracles.CLOSED_MOMENTS:
                    values = oracles.CLOSED_MOMENTS[name](q)
                    check = oracles.moment(act, q) if mpf(q) <= 100 else values
                else:
                    values = oracles.moment(act, q)
                    check = oracles.moment(act, q, nodes=44, fine=3)
                for field, a, b in zip(values._fields, values, check, strict=True):
                    agree(f"{name} {params} q={q} {field}", a, b, 1e-26, 1e-34)
                texts = {k: mp.nstr(v, 20) for k, v in values._asdict().items()}
                yield {"activation": name, "params": params, "q": q} | texts


def agree_pair(
    label: str, first: oracles.Pair, second: oracles.Pair, tolerance: float, floor: float
) -> None:
    """Compare the fields of two pair values."""
    for field, a, b in zip(first._fields, first, second, strict=True):
        if a is not None:
            agree(f"{label} {field}", a, b, tolerance, floor)


def small_gap(name: str, params: Params, q: str, eps: str) -> mpf:
    """EPS for a smooth activation from E[phi' phi'] on the arc up to theta (Price's theorem)."""
    theta = 2 * mp.asin(mp.sqrt(mpf(eps) / 2))
    total = mpf(0)
    for x, w in oracles.legendre_rule(5):
        t = theta * (1 + x) / 2
        slopes = oracles.pair_tensor(name, params, q, q, 2 * mp.sin(t / 2) ** 2).DD
        total += w * theta / 2 * mp.sin(t) * slopes
    return total


def pair_value(name: str, params: Params, q1: str, q2: str, eps: str) -> oracles.Pair:
    """Compute one pair value and check it by a second rule or route."""
    label = f"{name} {params} q=({q1}, {q2}) eps={eps}"
    act = oracles.build(name, **params)
    floor = 1e-18 * max(1.0, float(mp.sqrt(mpf(q1) * mpf(q2))))
    closed = oracles.pair_closed(name, q1, q2, eps) if name in oracles.CLOSED_PAIRS else None
    if eps in ("0", "1", "2"):
        rule: Callable[..., oracles.Pair] = oracles.pair_independent
        arguments: tuple = (act, q1, q2)
        if eps != "1":
            rule, arguments = oracles.pair_line, (act, q1, q2, 1 if eps == "0" else -1)
        value = rule(*arguments, nodes=24)
        agree_pair(label, value, closed or rule(*arguments, nodes=18), 1e-22, 1e-30)
        return value
    if closed:
        if name in oracles.PIECES:
            check = oracles.pair_conditional(name, params, q1, q2, eps)
            agree_pair(label, closed, check, 1e-22, 1e-30)
        return closed
    if name == "gelu":
        value = oracles.pair_conditional(name, params, q1, q2, eps)
        check = oracles.pair_conditional(name, params, q2, q1, eps, nodes=32)
        agree_pair(label, value, check, 1e-22, 1e-30)
        return value
    check = oracles.pair_tensor(name, params, q1, q2, eps, nodes=16)
    if name in oracles.PIECES:
        value = oracles.pair_conditional(name, params, q1, q2, eps)
    else:
        value = oracles.pair_tensor(name, params, q1, q2, eps)
        if q1 == q2 and mpf(eps) < 1e-6:
            value = value._replace(EPS=small_gap(name, params, q1, eps))
    agree_pair(label, value, check, 5e-16, floor if mpf(eps) > 1e-6 else 0.0)
    return value


def text(value: mpf | None, digits: int) -> str | None:
    """Write a value in decimal; rounding noise about zero becomes 0."""
    if value is None:
        return None
    return "0" if abs(value) < 1e-40 else mp.nstr(value, digits)


def pair_records(names: Container[str]) -> Iterator[dict]:
    """Yield one record for every named activation, parameter set, variance pair and c."""
    mp.dps = 50
    for name, choices in PAIR_PARAMS.items():
        digits = 18 if name in oracles.SMOOTH else 20
        for params in choices if name in names else ():
            for q1, q2 in PAIR_VARIANCES:
                if mpf(q1) > 100 and oracles.build(name, **params).oscillates:
                    continue
                for c, eps in CORRELATIONS:
                    value = pair_value(name, params, q1, q2, eps)
                    head = {"q1": q1, "q2": q2, "c": c, "eps": eps}
                    texts = {k: text(v, digits) for k, v in value._asdict().items()}
                    yield {"activation": name, "params": params} | head | texts


def separation_records(names: Container[str]) -> Iterator[dict]:
    """Yield E (s φ(u1) - t φ(u2))²/2, all arguments binary numbers."""
    mp.dps = 60
    for name, params in SEPARATION_PARAMS.items():
        act = oracles.build(name, **params)
        for q1, q2, eps, ratio in SEPARATIONS if name in names else ():
            first, second = (oracles.moment(act, mpf(q))[0] for q in (q1, q2))
            s, t = float(1 / mp.sqrt(first)), ratio * float(1 / mp.sqrt(second))
            if eps in (0, 2):
                product = oracles.pair_line(act, mpf(q1), mpf(q2), 1 if eps == 0 else -1)[0]
            else:
                product = oracles.pair_conditional(name, params, mpf(q1), mpf(q2), mpf(eps))[0]
            own = mpf(s) ** 2 * first + mpf(t) ** 2 * second
            value = text(own / 2 - mpf(s) * mpf(t) * product, 20)
            head = {"q1": q1, "q2": q2, "eps": eps, "s": s, "t": t}
            yield {"activation": name, "params": params} | head | {"separation": value}


def write(path: Path, records: list[dict]) -> None:
    """Write records as a JSON list, one record a line."""
    path.write_text("[\n" + ",\n".join(json.dumps(r) for r in records) + "\n]\n")
    print(f"{path.name}: {len(records)} records")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", help="moments, pairs, separations; all if left out")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="recompute these activations")
    options = parser.parse_args()
    if np.finfo(np.longdouble).nmant < 63:
        parser.error("this platform has no 80-bit floats")
    names = options.only or list(oracles.PHI)
    tables = {"moments": moment_records, "pairs": pair_records, "separations": separation_records}
    for table, generate in tables.items():
        if options.tables and table not in options.tables:
            continue
        path = HERE / f"{table}.json"
        kept = json.loads(path.read_text()) if options.only and path.exists() else []
        records = [r for r in kept if r["activation"] not in names]
        records += generate(names)
        order = list(oracles.PHI)
        write(path, sorted(records, key=lambda r: order.index(r["activation"])))


if __name__ == "__main__":
    main()
