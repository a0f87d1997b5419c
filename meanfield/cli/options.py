"""Options that several commands have, with what their help says."""

from pathlib import Path
from typing import Annotated

import typer

ActivationOption = Annotated[
    str,
    typer.Option("--activation", "-a", help="A name from `list activations`, or file.py:function."),
]
ActivationArgument = Annotated[
    str, typer.Argument(help="A name from `list activations`, or file.py:function.")
]
ParamOption = Annotated[
    list[str] | None, typer.Option("--param", "-p", help="A parameter, as name=value. Repeatable.")
]
SigmaBOption = Annotated[float, typer.Option("--sigma-b", help="Standard deviation of the biases.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON; NaN becomes null.")]
SigmaWOption = Annotated[
    float | None,
    typer.Option("--sigma-w", help="That of the weights; by default the critical one."),
]
EnsembleOption = Annotated[str, typer.Option("--ensemble", help="Weights: gaussian or orthogonal.")]
KeepOption = Annotated[float, typer.Option("--keep", help="Dropout keeps a unit so often.")]
MethodOption = Annotated[
    str,
    typer.Option("--method", help="table, quadrature, or auto: whichever is faster; they agree."),
]
Q0Option = Annotated[float, typer.Option("--q0", help="Variance that the first layer receives.")]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", help="Draw it into this .png, .pdf or .svg file.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Directory to write into.")]
FolderOption = Annotated[
    Path | None, typer.Option("--folder", help="Where the files of mnist or cifar10 are.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Delete a store that is there, and start anew.")
]
StoreArgument = Annotated[Path, typer.Argument(help="The .zarr that was written.")]
