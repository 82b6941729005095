"""Deployable packages: what each cloud wants in its zip, and the zip itself. It must not deploy anything.

The same files, requirements and interpreter make the same bytes: names are sorted, times and modes are fixed, and what
pip writes about the machine is left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from flux_cli.bytecode import compiled, interpreter
from flux_cli.exits import UNUSABLE, USAGE, CommandFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

ARCHITECTURES: Final = {"arm64": "aarch64", "x86_64": "x86_64"}
"""What clouds call a processor, and what Linux wheels call it."""
_OLDEST_GLIBC: Final = 17
_GLIBC_OF_AMAZON_LINUX_2: Final = 26
_GLIBC_OF_AMAZON_LINUX_2023: Final = 34
"""The minor versions of glibc 2 that wheels for Linux are built for. Lambda's Python 3.12 and later run on Amazon
Linux 2023; Azure's images have no older glibc than Lambda's of the same Python."""
_FIRST_ON_AMAZON_LINUX_2023: Final = 12
_REQUIREMENTS: Final = "requirements.txt"
_WHEELS: Final = "wheels"
_NAMED_WHEEL: Final = re.compile(rf"^(?:\./)?{_WHEELS}/([^\s\[;]+\.whl)", re.MULTILINE)
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = 0o100644 << 16
_OF_THE_MACHINE: Final = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})


class Target(NamedTuple):
    """What a cloud wants."""

    entry: str
    """The file that the platform loads."""
    architecture: str
    packages: str | None
    """The folder of the dependencies in the zip; None if the platform installs them itself."""
    python: str = "3.13"


TARGETS: Final = {
    "aws": Target("app.py", "arm64", ""),
    "gcp": Target("main.py", "x86_64", None),
    "azure": Target("function_app.py", "x86_64", ".python_packages/lib/site-packages", "3.12"),
}


class Package(NamedTuple):
    """What is in the zip."""

    files: Mapping[PurePosixPath, bytes]
    compiled: int
    """How many of them are bytecode."""


def package(target: Target, source: Path, wheel: Path | None, scratch: Path) -> Package:
    """The files of the package of `source`, with a local `wheel` of Flux if there is one; `scratch` is an empty folder.

    `CommandFailed` says what is missing, or why pip cannot install what `requirements.txt` asks for.
    """
    for name in (target.entry, _REQUIREMENTS):
        if not (source / name).is_file():
            raise CommandFailed(
                f"there is no {str(source / name)!r}, which the package needs; run flux build in the project's folder, "
                f"or say where the sources are: --source FOLDER",
                USAGE,
            )
    files = dict(_sources(source))
    if target.packages is None:
        return Package(files | _left_to_install(source, wheel), 0)
    stage = scratch / "stage"
    installed = stage / target.packages
    installed.mkdir(parents=True)
    _install(target, source / _REQUIREMENTS, wheel, installed, scratch)
    for path, content in _sources(installed):
        if not _is_of_the_machine(path):
            files[target.packages / path] = content
    for path, content in files.items():
        (stage / path).parent.mkdir(parents=True, exist_ok=True)
        (stage / path).write_bytes(content)
    python = interpreter(target.python)
    bytecode = {} if python is None else {PurePosixPath(p): c for p, c in compiled(python, stage, scratch)}
    wanted = {path: content for path, content in bytecode.items() if _source_of(path) in files}
    return Package(files | wanted, len(wanted))


def write(files: Mapping[PurePosixPath, bytes], file: Path) -> None:
    """The zip."""
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(files, key=str):
            info = zipfile.ZipInfo(str(path), _TIME)
            info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, _MODE, 3
            archive.writestr(info, files[path], compresslevel=9)


def _sources(folder: Path) -> list[tuple[PurePosixPath, bytes]]:
    """Every file but bytecode."""
    return [
        (PurePosixPath(file.relative_to(folder).as_posix()), file.read_bytes())
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc"
    ]


def _left_to_install(source: Path, wheel: Path | None) -> dict[PurePosixPath, bytes]:
    """What the platform's own installation needs: the requirements, and the wheels that they name."""
    text = (source / _REQUIREMENTS).read_text(encoding="utf-8")
    for name in _NAMED_WHEEL.findall(text):
        if not Path(_WHEELS, name).is_file():
            raise CommandFailed(
                f"there is no '{_WHEELS}/{name}', which {str(source / _REQUIREMENTS)!r} asks for; run flux build in "
                f"the project's folder, or put the wheel there",
                USAGE,
            )
    files = {
        PurePosixPath(_WHEELS, file.name): file.read_bytes()
        for file in sorted(Path(_WHEELS).glob("*.whl"))
        if file.name in text
    }
    if wheel is not None:
        files[PurePosixPath(_WHEELS, wheel.name)] = wheel.read_bytes()
        text = f"--find-links {_WHEELS}\n{text}"
    return files | {PurePosixPath(_REQUIREMENTS): text.encode()}


def _install(target: Target, requirements: Path, wheel: Path | None, folder: Path, scratch: Path) -> None:
    """Have pip install what is required, for the target's machine and not for this one."""
    links = []
    if wheel is not None:
        (scratch / _WHEELS).mkdir()
        (scratch / _WHEELS / wheel.name).write_bytes(wheel.read_bytes())
        links = ["--find-links", str(scratch / _WHEELS)]
    machine = ARCHITECTURES[target.architecture]
    later = int(target.python.rpartition(".")[2]) >= _FIRST_ON_AMAZON_LINUX_2023
    newest = _GLIBC_OF_AMAZON_LINUX_2023 if later else _GLIBC_OF_AMAZON_LINUX_2
    systems = [f"manylinux_2_{minor}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
    platforms = [word for system in (*systems, "manylinux2014") for word in ("--platform", f"{system}_{machine}")]
    done = subprocess.run(  # noqa: S603 -- this interpreter's pip
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
            *("--requirement", str(requirements), "--target", str(folder), "--no-compile", *links),
            *("--only-binary", ":all:", "--implementation", "cp", "--python-version", target.python, *platforms),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise CommandFailed(
            f"pip cannot install {str(requirements)!r} for Python {target.python} on {target.architecture}: "
            f"{(said or done.stderr.splitlines() or ['it does not say why'])[-1]}",
            UNUSABLE,
        )


def _is_of_the_machine(path: PurePosixPath) -> bool:
    """Whether pip wrote it about this machine: scripts with its interpreter's path, records of the installation."""
    return path.parts[0] == "bin" or (path.name in _OF_THE_MACHINE and path.parent.suffix == ".dist-info")


def _source_of(bytecode: PurePosixPath) -> PurePosixPath:
    return bytecode.parent.parent / f"{bytecode.name.partition('.')[0]}.py"
