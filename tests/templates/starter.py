"""The starters as tests look at them: rendered, written to a folder, and what their entry points define."""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from flux_cli.starters import STARTERS, rendered
from flux_core import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT: Final = Path(__file__).resolve().parents[2]
NAME: Final = "orders"


@cache
def files_of(kind: str, name: str = NAME) -> dict[PurePosixPath, bytes]:
    """Path and content of every file of a project of that kind."""
    return rendered(STARTERS[kind], {"name": name, "kit": "flux-serverless", "pin": f"=={__version__}"})


def source(kind: str, name: str) -> str:
    """One of its Python files, or what lies beside them."""
    return files_of(kind)[PurePosixPath(STARTERS[kind].source, name)].decode()


def entry_file(kind: str) -> str:
    """The name of the one Python file beside the workflows."""
    folder = PurePosixPath(STARTERS[kind].source)
    (entry,) = (p.name for p in files_of(kind) if p.parent == folder and p.suffix == ".py" and p.stem != "workflows")
    return entry


def defined(kind: str) -> set[str]:
    """What the entry point defines, as a platform names it: `app.handler`."""
    entry = entry_file(kind)
    names = {
        target.id
        for node in ast.parse(source(kind, entry)).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return {f"{Path(entry).stem}.{name}" for name in names}


def undefined(kind: str, names: Iterable[str]) -> set[str]:
    """Those of the names that neither the entry point nor the kit itself defines."""
    return {one for one in {*names} - defined(kind) if not (one.startswith("flux_") and _is_there(one))}


def _is_there(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    return callable(getattr(import_module(module), attribute, None))


def written(kind: str, folder: Path, name: str = NAME) -> Path:
    """Write the project into a folder in `folder`, as `flux init` does; its path."""
    project = folder / name
    for path, content in files_of(kind, name).items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_bytes(content)
    return project
