"""Flux itself as a wheel in a file: what projects and packages take while no index has it. It must not build one."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Final

from flux_cli.exits import USAGE, CommandFailed

if TYPE_CHECKING:
    from pathlib import Path

DISTRIBUTION: Final = "flux-serverless"
_FILE: Final = "flux_serverless-"


def checked_wheel(wheel: Path) -> Path:
    """`wheel`, if it is one of Flux. `CommandFailed` if it is not."""
    how = "build one in a checkout of Flux: pip wheel --no-deps ."
    if not wheel.is_file():
        raise CommandFailed(f"there is no file {str(wheel)!r}; {how}", USAGE)
    if not (wheel.name.startswith(_FILE) and wheel.suffix == ".whl" and zipfile.is_zipfile(wheel)):
        raise CommandFailed(f"{str(wheel)!r} is no wheel of {DISTRIBUTION}; {how}", USAGE)
    return wheel
