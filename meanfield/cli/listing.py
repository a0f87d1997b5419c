"""The command `meanfield list`: what can be named."""

from typing import Annotated

import typer

from meanfield.cli.completion import KINDS, among
from meanfield.cli.options import JsonOption
from meanfield.cli.output import (
    activation_rows,
    config_rows,
    console,
    emit,
    figure_rows,
    observable_rows,
)


def list_(
    kind: Annotated[
        str,
        typer.Argument(help=f"What is listed: {', '.join(KINDS)}.", autocompletion=among(KINDS)),
    ],
    as_json: JsonOption = False,
) -> None:
    """List what can be named: activations, observables, figures or configs."""
    from rich.table import Table

    from meanfield.errors import unknown_name

    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    header, rows = {
        "activations": activation_rows,
        "observables": observable_rows,
        "figures": figure_rows,
        "configs": config_rows,
    }[kind]()
    if as_json:
        emit({kind: [dict(zip(header, row, strict=True)) for row in rows]}, True, "")
        return
    table = Table(*header)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, str) else "\n".join(cell) for cell in row))
    console().print(table)
