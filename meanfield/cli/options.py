"""Options that several commands have, with what their help says and how a shell completes them."""

from pathlib import Path
from typing import Annotated

import typer

from meanfield.cli.completion import ENSEMBLES, METHODS, activation_names, among

complete_activation = among(activation_names)

ActivationArgument = Annotated[
    str | None,
    typer.Argument(
        help="The activation φ: a name from `meanfield list activations`, FILE.py:NAME or "
        "torch:NAME.",
        autocompletion=complete_activation,
        show_default=False,
    ),
]
ActivationOption = Annotated[
    str | None,
    typer.Option(
        "--activation",
        "-a",
        help="Another way to name ACTIVATION.",
        autocompletion=complete_activation,
    ),
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        "-p",
        help="A parameter of φ, written NAME=NUMBER, as a=2. Repeat it for several parameters.",
    ),
]
SigmaBOption = Annotated[
    float | None,
    typer.Option(
        "--sigma-b",
        help="Standard deviation σb of the biases, >= 0. Without it σb is 0 if --sigma-w is given; "
        "else σw and σb are chosen: the critical ones for the scale on which φ bends.",
        show_default=False,
    ),
]
EdgeSigmaBOption = Annotated[
    float | None,
    typer.Option(
        "--sigma-b",
        help="Standard deviation σb of the biases, >= 0. Without it σb is chosen too: the "
        "critical one for the scale on which φ bends.",
        show_default=False,
    ),
]
SigmaWOption = Annotated[
    float | None,
    typer.Option(
        "--sigma-w",
        help="Standard deviation σw of the weights times √(units), >= 0. Without it σw is the "
        "critical one.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON. NaN and infinity become null.")
]
EnsembleOption = Annotated[
    str,
    typer.Option(
        "--ensemble",
        help="How weights are drawn: gaussian or orthogonal.",
        autocompletion=among(ENSEMBLES),
    ),
]
KeepOption = Annotated[
    float,
    typer.Option(
        "--keep",
        help="Probability with which dropout keeps a unit, 0 < keep <= 1. There is no dropout at "
        "1.",
    ),
]
MethodOption = Annotated[
    str,
    typer.Option(
        "--method",
        help="How networks are solved: by a table of φ (table), one by one (quadrature), or by "
        "whichever is faster (auto). The results agree.",
        autocompletion=among(METHODS),
    ),
]
Q0Option = Annotated[
    float,
    typer.Option(
        "--q0", help="Variance of the first layer's pre-activations, > 0; others follow from it."
    ),
]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", help="Draw the result into this file: .png, .pdf or .svg."),
]
OutOption = Annotated[
    Path, typer.Option("--out", "-o", help="Write into this directory; it is made if it is absent.")
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="Read the files of MNIST or CIFAR-10 from this directory."),
]
OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Delete results that are there already, and begin anew."),
]
StoreArgument = Annotated[
    Path, typer.Argument(help="The .zarr directory that a sweep or a training has written.")
]
