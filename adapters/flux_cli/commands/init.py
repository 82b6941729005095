"""`flux init`: a project from a starter. It must not touch a folder that is there already."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Final

import typer

from flux_cli.exits import UNUSABLE, USAGE, CommandFailed
from flux_cli.output import note, notes, results
from flux_cli.starters import STARTERS, checked_name, rendered
from flux_cli.wheels import DISTRIBUTION, checked_wheel
from flux_core import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

_WHEELS: Final = PurePosixPath("wheels")


def init(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="|".join(STARTERS),
            help="Where the project will run.",
            autocompletion=lambda: list(STARTERS),
            show_default=False,
        ),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the project, and of its folder.", show_default=False)],
    *,
    wheel: Annotated[
        Path | None,
        typer.Option(
            envvar="FLUX_WHEEL",
            metavar="FILE",
            help="A wheel of Flux to put into the project, instead of asking for the package by its name.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a project in the new folder NAME: workflows, an entry point, tests, and what it is deployed with.

    It is whole: its tests pass as they are, and its README says how to deploy it and how to tear it down.
    """
    starter, project = STARTERS.get(kind), Path(checked_name(name))
    if starter is None:
        raise CommandFailed(f"there is no starter {kind!r}; there are {', '.join(STARTERS)}", USAGE)
    if project.exists() or project.is_symlink():
        raise CommandFailed(f"there is a {str(project)!r} already; choose another name, or remove it", USAGE)
    variables = {"name": name, "kit": DISTRIBUTION, "pin": f"=={__version__}"}
    if wheel is not None:
        variables |= {"kit": f"./{_WHEELS / checked_wheel(wheel).name}", "pin": ""}
    files = rendered(starter, variables)
    if wheel is not None:
        files[_WHEELS / wheel.name] = wheel.read_bytes()
    try:
        _write(project, files)
    except OSError as error:
        raise CommandFailed(
            f"{str(project)!r} cannot be written: {error.strerror}; nothing of it was", UNUSABLE
        ) from None
    if wheel is None:
        note(
            notes(),
            f"note: the project asks the package index for {DISTRIBUTION} {__version__}; where it is not published, "
            f"build a wheel in a checkout (pip wheel --no-deps .) and name it: --wheel FILE",
        )
    out = results()
    out.print(f"made {project}/ ({len(files)} files); now:", markup=False, soft_wrap=True)
    for command in (f"cd {project}", *starter.commands):
        out.print(f"  {command}", markup=False, soft_wrap=True)


def _write(project: Path, files: Mapping[PurePosixPath, bytes]) -> None:
    """All of it, or nothing: it is written beside, and gets its name at the end."""
    beside = Path(tempfile.mkdtemp(prefix=f".{project.name}.", dir=project.absolute().parent))
    try:
        for path, content in files.items():
            target = beside / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        beside.chmod(0o755)
        beside.rename(project)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
