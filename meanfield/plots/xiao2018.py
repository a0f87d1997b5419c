"""The edge of chaos of tanh for small biases.

The edge leaves σw² = 1, σb² = 0 as σb² = (σw² - 1)³/6 and q* = (σw² - 1)/2: weights a little above
1 are critical with biases smaller by orders of magnitude. Those of [1] have σw² = 1.05, for which
σb² = 2.010521339e-5.

References
----------
[1] L. Xiao, Y. Bahri, J. Sohl-Dickstein, S. Schoenholz, J. Pennington, Dynamical isometry and a
    mean field theory of CNNs: how to train 10,000-layer vanilla convolutional neural networks,
    ICML 2018, arXiv:1806.05393.
"""

import xarray as xr
from matplotlib.figure import Figure

from meanfield.plots import style
from meanfield.plots.base import figure
from meanfield.plots.style import LABELS, look

# Weight and bias variance of the published critical network.
PUBLISHED = (1.05, 2.010521339e-5)
ASYMPTOTE = {"color": style.BLACK, "linestyle": (0, (5, 2)), "linewidth": 1.2}
EXCESS = r"$\sigma_w^2-1$"


@figure(
    "xiao2018",
    title="Edge of chaos of tanh networks with small biases",
    needs=("bias_variance", "sigma_w", "q"),
    source="the critical networks of arXiv:1806.05393",
    dataset="xiao2018",
)
def edge(dataset: xr.Dataset) -> Figure:
    """Draw the critical bias variance and q* against σw² - 1, with their asymptotes."""
    bias, q = dataset["bias_variance"], dataset["q"]
    excess = dataset["sigma_w"] ** 2 - 1
    fig = style.canvas(style.WIDE, 3.2)
    left, right = fig.subplots(1, 2)
    left.plot(excess, bias, **look("tanh").points(), label="edge of chaos")
    left.plot(excess, excess**3 / 6, **ASYMPTOTE, label=r"$(\sigma_w^2-1)^3/6$")
    weight_variance, bias_variance = PUBLISHED
    left.plot(
        [weight_variance - 1],
        [bias_variance],
        linestyle="",
        marker="o",
        color=style.VERMILLION,
        markersize=6,
        zorder=5,
    )
    left.annotate(
        r"$\sigma_w^2=1.05$" + "\n" + r"$\sigma_b^2=2.0105\times10^{-5}$",
        xy=(weight_variance - 1, bias_variance),
        xytext=(0.72, 0.3),
        textcoords="axes fraction",
        fontsize=9,
        ha="center",
        arrowprops={"arrowstyle": "->", "linewidth": 0.8, "shrinkB": 5},
    )
    right.plot(excess, q, **look("tanh").points(), label="edge of chaos")
    right.plot(excess, excess / 2, **ASYMPTOTE, label=r"$(\sigma_w^2-1)/2$")
    for ax in (left, right):
        ax.set(xscale="log", yscale="log", xlabel=EXCESS)
        ax.legend(loc="upper left")
    left.set_ylabel(LABELS["bias_variance"])
    right.set_ylabel(LABELS["q_star"])
    style.panel(left, "a", "critical biases of tanh")
    style.panel(right, "b", "variance on the edge")
    return fig
