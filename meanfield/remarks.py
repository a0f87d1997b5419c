"""What do the numbers of a description mean, and which published ones are wrong?

Remarks are sentences that follow from the facts about one activation. Corrections are published
values that are wrong for it, each with its source.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from meanfield.activations import (
    Activation,
    Elu,
    Gelu,
    LeakyRelu,
    Mish,
    Relu,
    Relu6,
    Selu,
    Sigmoid,
    Softplus,
    Softsign,
    Srelu,
    Swish,
    Tanh,
)

if TYPE_CHECKING:
    from meanfield.description import Description

# What is this near (to a kink, or a factor to 1) coincides.
SAME = 1e-9
DISCONTINUOUS = "discontinuous"


@dataclasses.dataclass(frozen=True)
class Correction:
    """A published claim that is wrong for this activation: who says what, and what is right."""

    claim: str
    fact: str
    source: str
    published: float | None
    exact: float | None


def _about_gain(facts: "Description") -> Iterator[str]:
    start, own = facts.initialisation, facts.statistics
    if not (math.isfinite(start.gain) and math.isfinite(start.chi)):
        return
    if facts.shape.homogeneous:
        yield (
            f"φ(tx) = t φ(x): its gain is critical at every variance, V' = χ1 = 1; "
            f"with σw = 1 gradients change by E φ'² = {own.slope_moment_2:.6g} per layer."
        )
        return
    if start.variance_slope > 1 + SAME:
        yield (
            f"At its gain the length is unstable: V' = {start.variance_slope:.6g} > 1, an error "
            "in q grows by this factor per layer."
        )
    if start.chi > 1 + SAME:
        yield f"At its gain it is chaotic: χ1 = {start.chi:.6g} > 1, gradients grow."
    elif start.chi < 1 - SAME:
        yield f"At its gain it is ordered: χ1 = {start.chi:.6g} < 1, gradients vanish."


def _about_outputs(facts: "Description") -> Iterator[str]:
    low, high = facts.shape.minimum, facts.shape.maximum
    if low is None or high is None:
        return
    if max(-low, high) <= 1 and facts.statistics.second_moment < 1:
        yield "|φ| <= 1: no σw solves E φ(σw z)² = 1, whatever unit-variance recipe asks for it."


def _about_blocks(facts: "Description") -> Iterator[str]:
    at = facts.response
    inputs = f"N({at.mean:g}, {at.variance:g})"
    if at.inactive > 0:
        norm = " (what batch norm hands it)" if (at.mean, at.variance) == (0.0, 1.0) else ""
        yield f"Of inputs {inputs}{norm} the fraction {at.inactive:.6g} is silenced."
    if at.saturated > 0 and facts.smoothness_class != DISCONTINUOUS:
        yield (
            f"φ after a residual sum: gradients pass the skip path with probability "
            f"{1 - at.saturated:.6g} per block; before it: always, and E |gradient|² grows by "
            f"1 + χ1."
        )


def _about_function(facts: "Description") -> Iterator[str]:
    away, own = facts.relu_distance, facts.statistics
    if away is not None and 0 < away < math.inf:
        yield f"Its distance from ReLU is sup |φ - relu| = {away:.10g}."
    # Where masses cancel, rounding is left.
    if abs(own.kink_curvature) > SAME and math.isfinite(own.mean_curvature):
        yield (
            f"Dirac masses at kinks make {own.kink_curvature:.6g} of E φ'' = "
            f"{own.mean_curvature:.6g}; automatic differentiation of φ' misses them."
        )


def _about_edge(facts: "Description") -> Iterator[str]:
    unstable = [point for point in facts.edge if point.variance_slope > 1 + SAME]
    if unstable:
        worst = max(unstable, key=lambda point: point.variance_slope)
        yield (
            f"On the edge at σb = {worst.sigma_b:g} the length is unstable: "
            f"V' = {worst.variance_slope:.6g} > 1."
        )
    if facts.edge[:1] and facts.edge[0].q == 0 and facts.verdict.universality != "K* = 0":
        yield "At σb = 0 the edge starts at q = 0, which repels: small variances grow."


REMARKS: tuple[Callable[["Description"], Iterator[str]], ...] = (
    _about_gain,
    _about_outputs,
    _about_blocks,
    _about_function,
    _about_edge,
)

SRELU_PAPER = "S-ReLU, Mathematics 14 (2026) 72"
# sup |φ'| as published.
LIPSCHITZ: dict[type[Activation], tuple[float, str]] = {
    Gelu: (1.084, f"{SRELU_PAPER}, Fact 1"),
    Mish: (1.089, f"{SRELU_PAPER}, Fact 1"),
}
# γ = 1/√(Var φ(z)) as published, from samples, for default parameters.
NFNET_SOURCE = "NFNet code, Brock et al. 2021, arXiv:2102.06171"
NFNET: dict[type[Activation], float] = {
    Elu: 1.27160048,
    Gelu: 1.70150435,
    LeakyRelu: 1.70590341,
    Relu: 1.71395886,
    Relu6: 1.71314847,
    Selu: 1.00085151,
    Sigmoid: 4.80383539,
    Softplus: 1.92033231,
    Softsign: 2.33885312,
    Swish: 1.78812933,
    Tanh: 1.59391177,
}


def _of_lipschitz(phi: Activation, facts: "Description") -> Iterator[Correction]:
    exact, at = facts.shape.lipschitz, facts.shape.lipschitz_at
    if type(phi) in LIPSCHITZ and exact is not None:
        published, source = LIPSCHITZ[type(phi)]
        fact = f"{exact:.7g}, at x = {at:.6g}"
        yield Correction(f"Lipschitz constant {published:g}", fact, source, published, exact)


def _of_torch(_: Activation, facts: "Description") -> Iterator[Correction]:
    exact, published = facts.initialisation.gain, facts.initialisation.torch_gain
    if published is not None and abs(published / exact - 1) > SAME:
        claim, fact = f"gain {published:.6g}", f"{exact:.6g} keeps unit variance"
        if facts.name == Selu.name:
            fact += "; 3/4 is meant to trade it for stabler gradients"
        yield Correction(claim, fact, "PyTorch calculate_gain", published, exact)


def _of_samples(phi: Activation, facts: "Description") -> Iterator[Correction]:
    defaults = all(getattr(phi, k) == default for k, (default, *_) in phi.parameters().items())
    if type(phi) in NFNET and defaults:
        published, own = NFNET[type(phi)], facts.statistics
        exact = 1 / math.sqrt(own.second_moment - own.mean**2)
        yield Correction(
            f"1/√(Var φ(z)) = {published:.9g}",
            f"{exact:.9g}; the published one is Monte Carlo",
            NFNET_SOURCE,
            published,
            exact,
        )


def _of_criticality(phi: Activation, facts: "Description") -> Iterator[Correction]:
    if isinstance(phi, Selu):
        chi = facts.initialisation.chi
        yield Correction(
            "gradients neither vanish nor explode at its fixed point (0, 1)",
            f"it is slightly chaotic there, χ1 = {chi:.6g}",
            "Klambauer et al. 2017, arXiv:1706.02515",
            None,
            chi,
        )
    if isinstance(phi, Srelu | Softplus) and not facts.verdict.edge:
        yield Correction(
            "smooth, so that 1 - c ~ β/l on its edge of chaos [Hayou et al. 2019]",
            "it has no edge of chaos",
            f"{SRELU_PAPER}, section 4.1",
            None,
            None,
        )


CORRECTIONS: tuple[Callable[[Activation, "Description"], Iterator[Correction]], ...] = (
    _of_lipschitz,
    _of_torch,
    _of_samples,
    _of_criticality,
)
