"""Python programs for tests in an environment of their own, in the user's cache: their pins are not those of Flux."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

KEPT: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flux-tests"
"""Where everything is kept that a test needs and no package of Flux's own environment brings."""


class Environment(NamedTuple):
    """An environment with these packages and no others."""

    name: str
    """Its folder in the cache."""
    packages: tuple[str, ...]
    """With their versions: other ones are another environment."""

    @property
    def folder(self) -> Path:
        """Where it is."""
        return KEPT / self.name

    def program(self, name: str) -> Path | None:
        """One of its programs, if it is whole."""
        program, ready = self.folder / "bin" / name, self.folder / "ready"
        whole = ready.is_file() and ready.read_text() == " ".join(self.packages)
        return program if whole and program.exists() else None

    def make(self, python: str = sys.executable) -> None:
        """Make it anew with this interpreter, unless it is whole."""
        if self.program("python") is not None:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(self.folder)], check=True)
        pip = [str(self.folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *self.packages], check=True)
        (self.folder / "ready").write_text(" ".join(self.packages))
