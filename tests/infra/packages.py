"""Packages as a user makes them while no index has Flux: a wheel of this tree, a project out of it, `flux build`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.infra.sam import ROOT

CODE = os.pathsep.join([str(ROOT), str(ROOT / "adapters")])
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
"""Where other versions of Python may be, whose commands on PATH do not run unless one is chosen."""


def wheel_of_flux(folder: Path) -> Path:
    """Built by the installed hatchling."""
    _run(ROOT, "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (built,) = folder.glob("*.whl")
    return built


def project(kind: str, folder: Path, wheel: Path) -> Path:
    """A new project of this kind."""
    flux(folder, "init", kind, "shop", "--wheel", str(wheel))
    return folder / "shop"


def flux(folder: Path, *arguments: str) -> str:
    """Run the command line; what it writes."""
    return _run(folder, "flux_cli", *arguments)


def _run(folder: Path, module: str, *arguments: str) -> str:
    given = {name: value for name, value in os.environ.items() if not name.startswith("FLUX_")}
    pythons = [str(place) for place in sorted(PYENV.glob("3.*/bin"))]
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=given | {"PYTHONPATH": CODE, "PATH": os.pathsep.join([*pythons, given["PATH"]])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
