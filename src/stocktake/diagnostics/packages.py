"""Which Python packages are installed, and whether they are the ones that pyproject.toml and the lock name."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

import stocktake


def installed(name: str) -> str | None:
    """Returns the version of an installed package, without the name of its build: 2.14.0+cpu is a 2.14.0."""
    try:
        return Version(version(name)).public
    except PackageNotFoundError:
        return None


def versions(names: Iterable[str]) -> dict[str, str | None]:
    """Returns the version of each package, `None` where it has no metadata; this one's where it is not installed, too.

    A training container runs this package from its source, and a missing label shall cost nobody a model.
    """
    return {name: stocktake.__version__ if name == "stocktake" else _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def fits(requirement: Requirement) -> bool:
    """Whether the package is there in a version that the requirement admits."""
    there = installed(requirement.name)
    return there is not None and requirement.specifier.contains(there, prereleases=True)


def describe(requirement: Requirement) -> str:
    """Returns such as `torch 2.15.0`, and what is wanted where that is another version."""
    named = f"{requirement.name} {installed(requirement.name) or 'not installed'}"
    return named if fits(requirement) else f"{named} (wanted {requirement.specifier})"


def locked(lock: Path) -> list[Requirement]:
    """Returns what a lock with hashes (the format of `pip install --require-hashes`) names for this platform."""
    lines = (line.removesuffix("\\").strip() for line in lock.read_text().splitlines() if line[:1].isalnum())
    requirements = map(Requirement, lines)
    return [wanted for wanted in requirements if wanted.marker is None or wanted.marker.evaluate()]
