"""Figures, drawn from datasets.

>>> from meanfield import plots
>>> record = plots.figures["murray2021-9"]
>>> drawing = plots.draw("murray2021-9", record.data())
>>> paths = plots.save(drawing, "figures", "murray2021-9")  # doctest: +SKIP
"""

from meanfield.plots import murray2021, phase
from meanfield.plots.base import Figure, draw, figure, figures, save

__all__ = ["Figure", "draw", "figure", "figures", "murray2021", "phase", "save"]
