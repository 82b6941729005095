"""SAM's own command line for tests, in an environment of its own: it pins sixty packages.

`python -m tests.services.sam_cli` makes it in the user's cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from pathlib import Path
from typing import Final

VERSION: Final = "aws-sam-cli==1.170.0"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flux-tests" / "sam-cli"
INSTALL: Final = "python -m tests.services.sam_cli (make infra does it)"


def program() -> str | None:
    """The command."""
    own = CACHE / "bin" / "sam"
    return str(own) if (CACHE / "ready").is_file() else shutil.which("sam")


def main() -> None:
    """Make the environment, unless there is the command already."""
    if program() is None:
        venv.create(CACHE, with_pip=True, clear=True)
        install = [
            str(CACHE / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            VERSION,
        ]
        subprocess.run(install, check=True)
        (CACHE / "ready").touch()


if __name__ == "__main__":
    main()
