"""Which configs ship with the package? Known by their files' names, so that completion is fast."""

from pathlib import Path

# What of the shipped configs is no sweep begins so.
TRAINING = "train_"


def config_directory() -> Path:
    """Return where the shipped configs are: in the wheel, or beside the package's sources."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def shipped() -> list[str]:
    """Return the names of all configs that ship with the package."""
    return sorted(path.stem for path in config_directory().glob("*.toml"))


def config_names() -> list[str]:
    """Return the names of the sweeps that ship with the package."""
    return [name for name in shipped() if not name.startswith(TRAINING)]


def training_names() -> list[str]:
    """Return the names of the trainings that ship with the package."""
    return [name for name in shipped() if name.startswith(TRAINING)]
