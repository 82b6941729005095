"""Where the files are that Flux ships beside its code: starters and infrastructure. It must not read any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flux_cli.exits import UNUSABLE, CommandFailed

TEMPLATES: Final = "templates"
INFRA: Final = "infra"

_PACKAGE: Final = Path(__file__).resolve().parent
_CHECKOUT: Final = _PACKAGE.parents[1]


def shipped(name: str) -> Path:
    """The folder `name`: package data of an installed wheel, or at the top of the checkout that is installed."""
    for place in (_PACKAGE, _CHECKOUT):
        if (place / name).is_dir():
            return place / name
    raise CommandFailed(
        f"this installation of Flux has no folder {name!r}, neither beside {str(_PACKAGE)!r} nor at the top of a "
        f"checkout; install the package anew",
        UNUSABLE,
    )
