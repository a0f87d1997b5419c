"""Several devices, accelerators, and devices that know no double precision."""

import os
import subprocess
import sys
import warnings
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import meanfield as mf
from meanfield import devices
from meanfield.devices import LENGTHS, chunk, mesh_of, precision, require_precision
from meanfield.errors import MeanFieldWarning

TWO = "--xla_force_host_platform_device_count=2"
# Prints what a grid by table, one by quadrature, the edge and a rollout give, in bits, and how
# networks are cut between the devices.
SCRIPT = """
import hashlib
import jax, numpy as np, meanfield as mf
from meanfield.batch import settle
from meanfield.devices import LENGTHS
from meanfield.method import in_pieces
tanh = mf.activation("tanh")
axes = np.linspace(0.5, 3.0, 70), np.linspace(0.0, 1.0, 70)
table = mf.phase_diagram(tanh, *axes)
direct = mf.phase_diagram(tanh, axes[0][::12], axes[1][::20], method="quadrature")
edge = mf.edge_of_chaos(tanh, np.geomspace(1e-3, 3.0, 300))
pairs = mf.rollout(mf.Dense(tanh, 1.7, 0.3), 1.0, 1.0, np.linspace(-0.9, 0.99, 300), 20)
for values in [*(d[k].values for d in (table, direct) for k in d), *jax.tree.leaves((edge, pairs))]:
    print(hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest())

tabulated = mf.tabulate(tanh, ("moments", "acute"))
def cut(x):
    return [(part.device.id, part.data.size) for part in x.addressable_shards]
def by_table(networks):
    found = settle(tabulated, *networks, 1.0).q
    print("cut", cut(found))
    return found
def by_host(networks):
    # What has no table is answered by the host, whatever devices there are.
    return mf.steady_state(mf.Dense(tanh, *networks)).q
networks = np.full(5, 1.5), np.full(5, 0.1)
# Kernels for pieces of this length have been compiled.
a, b = in_pieces(by_table, networks, LENGTHS[0]), in_pieces(by_host, networks, 4)
np.testing.assert_allclose(a, b, rtol=1e-10)

# Arrays that a caller has cut, over axes of any type.
row = jax.make_mesh((jax.device_count(),), ("mine",))
cut = jax.NamedSharding(row, jax.P(None, "mine"))
q = jax.device_put(np.arange(1.0, 7.0).reshape(3, 2), cut)
print(mf.Dense(tanh, 1.5, 0.1).variance(q).tolist())
"""


def answer(flags):
    environment = {**os.environ, "XLA_FLAGS": flags}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    return [x for x in lines if "cut" not in x], [x for x in lines if "cut" in x]


def test_two_devices_share_a_grid_and_give_the_same_bits():
    numbers, alone = answer("")
    same, shared = answer(TWO)
    assert numbers == same
    assert set(alone) == {f"cut [(0, {LENGTHS[0]})]"}
    assert set(shared) == {f"cut [(0, {LENGTHS[0]}), (1, {LENGTHS[0]})]"}


def test_elements_at_a_time_give_what_one_after_another_do(monkeypatch):
    layer = mf.Dense(mf.activation("shtanh", a=0.7), np.array([0.6, 1.1, 1.5, 4.0, 0.0]), 0.2)
    alone = mf.steady_state(layer), mf.correlation_fixed_point(layer)
    monkeypatch.setattr(devices, "lanes", lambda: 3)
    together = mf.steady_state(layer), mf.correlation_fixed_point(layer)
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_chunks_follow_the_memory_of_a_device(monkeypatch):
    cpu = SimpleNamespace(memory_stats=lambda: None)
    gpu = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 80 * 2**30})
    monkeypatch.setattr(jax, "local_devices", lambda: [cpu])
    assert chunk(10**7, 8192) == LENGTHS[0]
    monkeypatch.setattr(jax, "local_devices", lambda: [gpu])
    assert chunk(10**7, 8192) == LENGTHS[2]
    assert chunk(10**5, 8192) == LENGTHS[1]
    assert chunk(10, 8192) == LENGTHS[0]
    assert chunk(10**7, 2**20) == LENGTHS[0]


def test_arrays_on_one_device_are_not_cut():
    assert mesh_of(np.ones(3), jax.numpy.ones(3), 2.0) is None


def test_a_device_without_double_precision_is_named(monkeypatch):
    assert precision() == np.finfo(float).eps
    with jax.enable_x64(False):
        assert precision() == pytest.approx(np.finfo(np.float32).eps)
    require_precision.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        require_precision()
    require_precision.cache_clear()
    monkeypatch.setattr(devices, "DOUBLE", ())
    monkeypatch.setattr(devices, "precision", lambda: 2.0**-23)
    with pytest.warns(MeanFieldWarning, match="rounds at 1e-07.* no number has more than 6 digits"):
        mf.critical_point(mf.activation("tanh"), 1.0)
    require_precision.cache_clear()
