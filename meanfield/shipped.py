"""Which configs ship with the package? What checks them is not imported: completion is fast."""

import tomllib
from pathlib import Path
from typing import Any

# Of these keys a training has at least one, a sweep none.
TRAINING_KEYS = frozenset({"data", "depth", "width", "epochs", "learning_rate", "seeds"})


def config_directory() -> Path:
    """Return where the shipped configs are: in the wheel, or beside the package's sources."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def shipped() -> list[str]:
    """Return the names of all configs that ship with the package."""
    return sorted(path.stem for path in config_directory().glob("*.toml"))


def is_training(table: dict[str, Any]) -> bool:
    """Return whether the table of a config is that of a training, not of a sweep."""
    return not TRAINING_KEYS.isdisjoint(table)


def config_names() -> list[str]:
    """Return the names of the sweeps that ship with the package."""
    return [name for name in shipped() if not _is_training(name)]


def training_names() -> list[str]:
    """Return the names of the trainings that ship with the package."""
    return [name for name in shipped() if _is_training(name)]


def _is_training(name: str) -> bool:
    path = config_directory() / f"{name}.toml"
    return is_training(tomllib.loads(path.read_text(encoding="utf-8")))
