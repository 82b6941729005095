"""Bytecode for a package: for the Python it will run on, and only where it is the same every time it is made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from flux_cli import compiling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def interpreter(version: str) -> str | None:
    """A Python of this version (`3.13`): this one, or one on PATH; None if there is none that runs."""
    if version == "{}.{}".format(*sys.version_info[:2]):
        return sys.executable
    found = shutil.which(f"python{version}")
    if found is None:
        return None
    runs = subprocess.run([found, "-c", ""], capture_output=True, check=False)  # noqa: S603 -- from PATH
    return found if runs.returncode == 0 else None


def compiled(python: str, sources: Path, scratch: Path) -> Iterator[tuple[Path, bytes]]:
    """Path below `sources` and content of the bytecode of its files, made by `python`.

    What it marks as shared can depend on what the process did before. So all is compiled twice, in two orders with two
    hash seeds, and what differs is left out: Python then compiles that file itself.
    """
    passes = []
    for seed, order in enumerate(("sorted", "reversed")):
        out = scratch / order
        passes.append(out)
        subprocess.run(  # noqa: S603 -- the interpreter that was found
            [python, "-s", str(compiling.__file__), str(sources), str(out), order],
            env={"PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=True,
        )
    first, second = passes
    for file in sorted(first.rglob("*.pyc")):
        path = file.relative_to(first)
        content = file.read_bytes()
        if (second / path).read_bytes() == content:
            yield path, content
