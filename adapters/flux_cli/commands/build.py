"""`flux build`: the package that a cloud is given. It must not change the project, nor deploy."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from flux_cli.exits import UNUSABLE, USAGE, CommandFailed
from flux_cli.output import note, notes, results
from flux_cli.packages import ARCHITECTURES, TARGETS, package, write
from flux_cli.wheels import checked_wheel


def build(
    cloud: Annotated[
        str,
        typer.Argument(
            metavar="|".join(TARGETS),
            help="What it is for.",
            autocompletion=lambda: list(TARGETS),
            show_default=False,
        ),
    ],
    *,
    source: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The entry point, the workflows and requirements.txt.")
    ] = Path("src"),
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The package.  [default: build/CLOUD.zip]"),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            help="The Python that will run it.  [default: 3.12 for azure, else 3.13]",
            show_default=False,
        ),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(ARCHITECTURES),
            help="The processor that will run it.  [default: arm64 for aws, else x86_64]",
            show_default=False,
        ),
    ] = None,
    wheel: Annotated[
        Path | None,
        typer.Option(
            envvar="FLUX_WHEEL",
            metavar="FILE",
            help="A wheel of Flux, where the package index has none.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make the package that the cloud is given: sources, dependencies for its machines, bytecode for its Python.

    The same sources, requirements and versions make the same bytes, so that what has not changed is not deployed.
    """
    target = TARGETS.get(cloud)
    if target is None:
        raise CommandFailed(f"there is no package for {cloud!r}; there are {', '.join(TARGETS)}", USAGE)
    if architecture is not None and architecture not in ARCHITECTURES:
        raise CommandFailed(f"--architecture must be {' or '.join(ARCHITECTURES)}, not {architecture!r}", USAGE)
    target = target._replace(
        python=target.python if python is None else _version(python),
        architecture=target.architecture if architecture is None else architecture,
    )
    file = output or Path("build") / f"{cloud}.zip"
    with tempfile.TemporaryDirectory(prefix="flux-build-") as scratch:
        made = package(target, source, None if wheel is None else checked_wheel(wheel), Path(scratch))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".{file.name}.part")
        write(made.files, beside)
        beside.replace(file)
    except OSError as error:
        raise CommandFailed(f"{str(file)!r} cannot be written: {error.strerror}", UNUSABLE) from None
    content = file.read_bytes()
    if target.packages is not None and not made.compiled:
        note(
            notes(),
            f"note: there is no python{target.python} on PATH, so the package has no bytecode and each cold start "
            f"compiles what it imports; install it, or name the one that runs the functions: --python VERSION",
        )
    results().print(
        f"{file}: {len(made.files)} files ({made.compiled} of them bytecode), {len(content) / 1e6:.1f} MB, "
        f"sha256 {hashlib.sha256(content).hexdigest()}",
        markup=False,
        soft_wrap=True,
    )


def _version(given: str) -> str:
    major, _, minor = given.partition(".")
    if not (major == "3" and minor.isdigit()):
        raise CommandFailed(f"--python must be a version such as 3.13, not {given!r}", USAGE)
    return given
