"""The command `meanfield edge`: the critical network of an activation."""

from meanfield.cli.inputs import load_activation, one_activation, shown_params
from meanfield.cli.network import critical
from meanfield.cli.options import (
    ActivationArgument,
    ActivationOption,
    EdgeSigmaBOption,
    JsonOption,
    ParamOption,
)
from meanfield.cli.output import emit


def edge(
    activation: ActivationArgument = None,
    named: ActivationOption = None,
    sigma_b: EdgeSigmaBOption = None,
    param: ParamOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the edge of chaos: the σw that makes a network with this σb critical."""
    from meanfield.criticality import STEADY
    from meanfield.errors import Status

    name = one_activation(activation, named)
    found = critical(load_activation(name, param), sigma_b)
    status = Status(int(found.status))
    record = {
        "activation": name,
        **shown_params(param),
        "q": float(found.q),
        "sigma_w": float(found.sigma_w),
        "sigma_b": float(found.sigma_b) if sigma_b is None else sigma_b,
        "slope": float(found.slope),
        "stable": None if status != Status.OK else abs(float(found.slope)) < 1 - STEADY,
        "status": status.name,
    }
    repels = float(found.slope) > 1 + STEADY
    unstable = "; but V' > 1: lengths are repelled from this q" if repels else ""
    emit(record, as_json, f"{name}: {status.message}{unstable}")
