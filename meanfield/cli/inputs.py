"""What a user types, read: activations by name or from a file, and their parameters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from meanfield.errors import MeanFieldError

if TYPE_CHECKING:
    from meanfield.activations import Activation
    from meanfield.sweep.config import GridSpec

Value = TypeVar("Value")


def one_activation(positional: str | None, option: str | None) -> str:
    """Return the activation that is named by its place, by --activation, or by both alike."""
    if positional is None and option is None:
        raise MeanFieldError(
            "ACTIVATION must be given: a name from `meanfield list activations`, such as tanh, "
            "FILE.py:NAME or torch:NAME"
        )
    if None not in (positional, option) and positional != option:
        raise MeanFieldError(
            f"ACTIVATION {positional} and --activation {option} differ; one of them is legal"
        )
    return option if positional is None else positional  # pyright: ignore[reportReturnType]


def given(name: str, value: Value | None, legal: str) -> Value:
    """Return an option's value. Raises `MeanFieldError` where there is none.

    It is asked after the values that are there have been judged, so it is no duty of Typer's.
    """
    if value is None:
        raise MeanFieldError(f"{name} must be given: {legal}")
    return value


def load_activation(name: str, params: list[str] | None) -> "Activation":
    """Return the activation that --activation and --param name."""
    from meanfield.activations.named import named

    return named(name, **shown_params(params))


def _parse_param(text: str) -> tuple[str, float]:
    key, found, value = text.partition("=")
    try:
        if found and key.strip():
            return key.strip(), float(value)
    except ValueError:
        pass
    raise MeanFieldError(f"--param {text!r} is not legal; it must be name=number")


def shown_params(param: list[str] | None) -> dict[str, float]:
    """Return the parameters as they are repeated in the output."""
    pairs = [_parse_param(text) for text in param or []]
    for key, _ in pairs:
        if [k for k, _ in pairs].count(key) > 1:
            raise MeanFieldError(f"--param {key} is given twice; once is legal")
    return dict(pairs)


def check_use(spec: "GridSpec", known: set[str], checks: Sequence[str] = ()) -> None:
    """Raise `MeanFieldError` where checks, or figures of a config, need what it does not have.

    `known` are the names of its variables and coordinates.
    """
    needs: list[tuple[str, tuple[str, ...]]] = []
    try:
        # Drawing is slow to import, and seldom asked for.
        if checks:
            from meanfield.studies import checks as all_checks

            needs += [(f"check {name}", all_checks[name].needs) for name in checks]
        if spec.figures:
            from meanfield.plots import figures

            drawn = [figures[name] for name in spec.figures]
            needs += [(f"figure {f.name}", f.needs) for f in drawn if f.data is None]
    except MeanFieldError as error:
        raise MeanFieldError(f"{spec.name}.toml: {error}") from error
    for what, names in needs:
        missing = [name for name in names if name not in known]
        if missing:
            raise MeanFieldError(
                f"{spec.name}.toml: {what} needs {', '.join(missing)} among axes and observables"
            )
