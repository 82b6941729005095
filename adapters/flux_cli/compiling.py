"""A script, run by the Python that a package is for: bytecode of every file below a folder. It must not import Flux.

    python compiling.py SOURCES OUT sorted|reversed

The bytecode is of the kind that Python takes without looking at the source (PEP 552, unchecked): in a package nobody
changes the source. A file that this Python cannot read is left out.
"""

from __future__ import annotations

import py_compile
import sys
from importlib.util import cache_from_source
from pathlib import Path


def compile_all(sources: Path, out: Path, *, backwards: bool) -> None:
    """Write to `out` what belongs beside the files of `sources`."""
    for file in sorted(sources.rglob("*.py"), reverse=backwards):
        path = file.relative_to(sources)
        target = out / cache_from_source(str(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        py_compile.compile(
            str(file),
            str(target),
            dfile=path.as_posix(),
            quiet=2,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


if __name__ == "__main__":
    compile_all(Path(sys.argv[1]), Path(sys.argv[2]), backwards=sys.argv[3] == "reversed")
