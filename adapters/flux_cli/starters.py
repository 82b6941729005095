"""Starter projects: which there are, what each is made of, and its files as text. It must not write anything."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from flux_cli.exits import UNUSABLE, USAGE, CommandFailed
from flux_cli.shipped import INFRA, TEMPLATES, shipped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SHARED: Final = "shared"
_SOURCE: Final = "src"
_VARIABLE: Final = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_NAME: Final = re.compile(r"[a-z](-?[a-z0-9])+")
_SHORTEST_NAME: Final = 4
_LONGEST_NAME: Final = 12
"""What service accounts of Google and storage accounts of Azure leave for what they are named after."""
_LEFT_OUT: Final = frozenset({"__pycache__", ".terraform", "tests"})
"""What may lie in `infra/` and is no part of a project."""


class Starter(NamedTuple):
    """One kind of project."""

    templates: tuple[str, ...]
    """Its folders in `templates/`; of two files in one place that of the later folder is taken."""
    commands: tuple[str, ...]
    """What to type next, in the project's folder."""
    infra: tuple[tuple[str, str], ...] = ()
    """What it takes from `infra/`: a file or folder there, and its place in the project."""
    source: str = _SOURCE
    """Where its Python files are."""


_TESTED: Final = (
    "python3 -m venv .venv",
    ". .venv/bin/activate",
    "pip install -r requirements-dev.txt",
    "pytest",
)
_KEYS: Final = 'export TF_VAR_callback_keys="k1:$(openssl rand -hex 32)"'
_APPLIED: Final = ("terraform init", "terraform apply")
STARTERS: Final = {
    "local": Starter(("local",), (*_TESTED, "flux dev --app app:engine"), source="."),
    "aws": Starter(
        ("aws", "aws-sam"),
        (*_TESTED, "flux build aws", "sam deploy"),
        (("aws/sam/template.yaml", "template.yaml"), ("aws/sam/README.md", "STACK.md")),
    ),
    "aws-terraform": Starter(
        ("aws", "aws-terraform"),
        (*_TESTED, "flux build aws", _KEYS, *_APPLIED),
        (("aws/terraform", "flux"), ("aws/sam/README.md", "sam/README.md")),
    ),
    "gcp": Starter(
        ("gcp-terraform",),
        (*_TESTED, "flux build gcp", _KEYS, *_APPLIED),
        (("gcp/terraform", "flux"),),
    ),
    "azure": Starter(
        ("azure-terraform",),
        (*_TESTED, "flux build azure", _KEYS, *_APPLIED),
        (("azure/terraform", "flux"),),
    ),
}


def checked_name(name: str) -> str:
    """`name`, if every cloud takes resources of that name. `CommandFailed` says what a name may be."""
    if not _NAME.fullmatch(name) or not _SHORTEST_NAME <= len(name) <= _LONGEST_NAME:
        raise CommandFailed(
            f"{name!r} cannot name a project: write {_SHORTEST_NAME} to {_LONGEST_NAME} of a-z, 0-9 and single hyphens "
            f"between them, a letter first; what is deployed is named after it",
            USAGE,
        )
    return name


def rendered(starter: Starter, variables: Mapping[str, str]) -> dict[PurePosixPath, bytes]:
    """Path and content of every file. `CommandFailed` for a template with a variable that is not in `variables`.

    What is the same in all starters comes first, then what is taken from `infra/`, then the starter's own files: the
    later one wins.
    """
    templates, known = shipped(TEMPLATES), {"source": starter.source, **variables}
    files: dict[PurePosixPath, bytes] = {}
    for path, file in _files(templates / _SHARED):
        files[_placed(path, starter)] = filled(file, known)
    for origin, place in starter.infra:
        found = shipped(INFRA) / origin
        if not found.exists():
            raise CommandFailed(f"this installation of Flux has no {INFRA}/{origin}; install it anew", UNUSABLE)
        for path, file in _files(found):
            files[PurePosixPath(place) / path] = file.read_bytes()
    for name in starter.templates:
        for path, file in _files(templates / name):
            files[_placed(path, starter)] = filled(file, known)
    return files


def filled(template: Path, variables: Mapping[str, str]) -> bytes:
    """The template with its variables replaced. `CommandFailed` for one that is unknown."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in variables:
            raise CommandFailed(
                f"the template {str(template)!r} has the unknown variable {found[0]}; there are "
                f"{', '.join(sorted(variables))}",
                UNUSABLE,
            )
        return variables[found[1]]

    return _VARIABLE.sub(value, template.read_text(encoding="utf-8")).encode()


def _files(folder: Path) -> Iterator[tuple[PurePosixPath, Path]]:
    """Every file below `folder` with its path from there; a file stands for itself."""
    if folder.is_file():
        yield PurePosixPath(), folder
        return
    for file in sorted(folder.rglob("*")):
        path = PurePosixPath(file.relative_to(folder).as_posix())
        if file.is_file() and not _foreign(folder, path):
            yield path, file


def _foreign(folder: Path, path: PurePosixPath) -> bool:
    """Whether it was left behind by Python or Terraform, or is a test of the module itself."""
    left_out = _LEFT_OUT if INFRA in folder.parts else _LEFT_OUT - {"tests"}
    return not left_out.isdisjoint(path.parts) or path.suffix in {".pyc", ".tfstate"} or path.name.endswith(".lock.hcl")


def _placed(path: PurePosixPath, starter: Starter) -> PurePosixPath:
    """Where a template's file stands in the project."""
    if path.parts[0] == _SOURCE:
        path = PurePosixPath(starter.source, *path.parts[1:])
    return path.with_name("." + path.name.removeprefix("dot-")) if path.name.startswith("dot-") else path
