"""How the package says that something is wrong.

A user's mistake raises a `MeanFieldError` that names the field, the value and what would be
legal. The outcome of a computation is a `Status` beside its numbers: nothing compiled
raises, and where the status is not OK the numbers are NaN unless the record says otherwise.
`check` turns a bad status into an exception for interactive work.

NumPy is imported where it is needed: this module also serves `meanfield --help`.
"""

import difflib
import enum
from collections.abc import Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")


class MeanFieldError(ValueError):
    """A value, a name or a file that the package cannot work with."""


class SolutionError(MeanFieldError):
    """A result whose status is not OK, raised by `check`."""


class MeanFieldWarning(UserWarning):
    """Something was done, but the package is not sure that it is what was meant."""


class Status(enum.IntEnum):
    """The outcome of a computation; `message` says what it means and what to try next."""

    PENDING = 0
    OK = 1
    NO_SOLUTION = 2
    NOT_CONVERGED = 3
    NONFINITE = 4
    DIVERGES = 5
    VANISHES = 6
    OUT_OF_DOMAIN = 7
    FAILED = 8
    TRAINING_DIVERGES = 9

    @property
    def message(self) -> str:
        return _MESSAGES[self]


_MESSAGES = {
    Status.PENDING: "not computed yet: the same command again finishes it",
    Status.OK: "solved",
    Status.NO_SOLUTION: "no such point exists for this activation and these parameters",
    Status.NOT_CONVERGED: (
        "no expectation or root could be certified here: the activation oscillates, grows or "
        "kinks faster than it is resolved"
    ),
    Status.NONFINITE: "a Gaussian expectation is infinite or overflows double precision",
    Status.DIVERGES: "the variance grows without bound: lower sigma_w",
    Status.VANISHES: "the variance decays to zero: raise sigma_w or sigma_b",
    Status.OUT_OF_DOMAIN: "a parameter is outside the activation's domain",
    Status.FAILED: "an error was raised: `meanfield status` shows it, `--retry-failed` tries again",
    Status.TRAINING_DIVERGES: "the loss grew without bound in training: lower learning_rate",
}


def check(result: Result) -> Result:
    """Return `result` unchanged if every status in it is OK, else raise `SolutionError`.

    Raises `MeanFieldError` for what has no `status`: arrays, and records that cannot fail.
    """
    import numpy as np

    if not hasattr(result, "status"):
        raise MeanFieldError(
            f"result of type {type(result).__name__} is not legal; it must have a status, as what "
            "steady_state, edge_of_chaos, rollout and open_results return has"
        )
    codes = np.unique(np.asarray(result.status))  # pyright: ignore[reportAttributeAccessIssue]
    bad = [Status(int(code)) for code in codes if code != Status.OK]
    if bad:
        raise SolutionError("; ".join(f"{status.name}: {status.message}" for status in bad))
    return result


def unknown_name(kind: str, name: str, known: Iterable[str]) -> MeanFieldError:
    """Return the error for a name that is not registered, with the nearest ones offered."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return MeanFieldError(f"unknown {kind} {name!r}; {hint}")


def require(condition: Any, name: str, value: Any, legal: str) -> None:
    """Raise `MeanFieldError` where a condition on concrete numbers fails anywhere."""
    import numpy as np

    if not np.all(condition):
        shown = np.asarray(value)
        text = repr(shown.item()) if shown.ndim == 0 else np.array2string(shown, threshold=6)
        raise MeanFieldError(f"{name} = {text} is not legal; it must be {legal}")
