"""What computes: how many points at a time, on which devices, and to how many digits.

Points do not know of each other. Where JAX has several devices a chunk of a grid is cut between
them (`jax.sharding`), and each works on its own part.
"""

import functools
import os
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from meanfield.errors import MeanFieldWarning

# Numbers of points that a kernel is compiled for; the first, where a device shares the processor's
# memory, as more of them leave its caches.
LENGTHS = (4096, 65536, 1048576)
# The part of a device's memory that one chunk may take.
SHARE = 0.25
# Backends that compute in double precision.
DOUBLE = ("cpu", "gpu")
# Elements that an accelerator works on at a time where a processor takes one after another.
LANES = 128


def mesh() -> Mesh:
    """Return all devices in a row."""
    return Mesh(np.array(jax.local_devices()), ("points",))


def count() -> int:
    """Return how many devices work."""
    return jax.local_device_count()


def threads() -> int:
    """Return on how many threads chunks are computed.

    A single one where there are several devices: all of them work on a chunk already, and two
    programs that each need all devices would wait for each other. MEANFIELD_THREADS says how many a
    worker that shares its machine may take.
    """
    if count() > 1:
        return 1
    own = os.environ.get("MEANFIELD_THREADS", "")
    return max(1, int(own)) if own.isdecimal() else _processors()


def _processors() -> int:
    """Return how many processors this process may use: a job may be given a part of a node's."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def lanes() -> int | None:
    """Return how many elements a function of scalars works on at a time, if more than one."""
    return None if jax.default_backend() == "cpu" else LANES


def chunk(size: int, each: int) -> int:
    """Return how many of `size` points, of so many bytes each, go through a kernel at a time.

    They are those of one device. Their number follows its memory, if that is its own.
    """
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    fitting = [n for n in LENGTHS if n * count() <= size and n * each <= SHARE * memory]
    return max(fitting, default=LENGTHS[0])


def cut(vector: Any) -> Any:
    """Return a vector cut between all devices, of which its length is a multiple."""
    return jax.device_put(vector, NamedSharding(mesh(), PartitionSpec("points")))


def copied(record: Any) -> Any:
    """Return a number or a record of arrays whole on every device."""
    return jax.device_put(record, NamedSharding(mesh(), PartitionSpec()))


def mesh_of(*arrays: Any) -> Mesh | None:
    """Return the devices between which arrays have been cut, if they have."""
    for array in arrays:
        sharding = getattr(array, "sharding", None)
        if isinstance(sharding, NamedSharding):
            # Of automatic axes, whatever the caller's are.
            return Mesh(np.asarray(sharding.mesh.devices), sharding.mesh.axis_names)
    return None


def moved(array: Any, to: Mesh) -> Any:
    """Return an array that has been cut between devices as one that is cut over another mesh."""
    sharding = getattr(array, "sharding", None)
    if not isinstance(sharding, NamedSharding):
        return array
    return jax.device_put(array, NamedSharding(to, sharding.spec))


@functools.cache
def require_precision() -> None:
    """Warn, once, where the device does not compute in double precision."""
    if jax.config.jax_enable_x64 and jax.default_backend() in DOUBLE:  # pyright: ignore[reportAttributeAccessIssue]
        return
    epsilon = precision()
    if epsilon > np.finfo(float).eps:
        name = jax.local_devices()[0].device_kind
        warnings.warn(
            f"{name} rounds at {epsilon:.0e}, not at 2e-16: no number has "
            f"more than {int(-np.log10(epsilon))} digits, and 1 - c and 1 - χ1 are not resolved "
            f"below {epsilon:.0e}; JAX_PLATFORMS=cpu and JAX_ENABLE_X64=1 give double precision",
            MeanFieldWarning,
            stacklevel=3,
        )


def precision() -> float:
    """Return the least power of two that the device can add to 1."""
    with jax.ensure_compile_time_eval():
        powers = jnp.asarray(2.0 ** -np.arange(53))
        seen = np.asarray((1 + powers) - 1) > 0
    return float(np.asarray(powers)[seen].min())
