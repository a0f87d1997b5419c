"""Grids of networks: a TOML config becomes a labelled dataset on disk."""

from meanfield.shipped import config_names
from meanfield.sweep.engine import run_sweep
from meanfield.sweep.export import export_results
from meanfield.sweep.spec import SweepSpec, load_config
from meanfield.sweep.store import open_results

__all__ = [
    "SweepSpec",
    "config_names",
    "export_results",
    "load_config",
    "open_results",
    "run_sweep",
]
