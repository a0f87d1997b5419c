"""Figures, drawn from datasets.

>>> from meanfield import plots
>>> record = plots.figures["murray2021-9"]
>>> drawing = plots.draw("murray2021-9", record.data())
>>> paths = plots.save(drawing, "figures", "murray2021-9")  # doctest: +SKIP
"""

from meanfield.plots import (
    hayou2019,
    initialisation,
    murray2021,
    pennington2017,
    pennington2018,
    phase,
    poole2016,
    schoenholz2017,
    srelu2026,
    training,
    tutorial,
    xiao2018,
)
from meanfield.plots.base import Figure, draw, figure, figures, save

__all__ = [
    "Figure",
    "draw",
    "figure",
    "figures",
    "hayou2019",
    "initialisation",
    "murray2021",
    "pennington2017",
    "pennington2018",
    "phase",
    "poole2016",
    "save",
    "schoenholz2017",
    "srelu2026",
    "training",
    "tutorial",
    "xiao2018",
]
