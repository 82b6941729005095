"""Finds the engine that `--app module:attribute` names. It must not run a workflow or touch a store."""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from flux_cli.exits import UNUSABLE, USAGE, CommandFailed
from flux_core import FluxEngine

if TYPE_CHECKING:
    from types import ModuleType

    from flux_core import WorkflowStorage

VARIABLE: Final = "FLUX_APP"
"""The environment variable that names the app where `--app` does not."""


def load_engine(spec: str) -> FluxEngine:
    """The engine at `spec`, or what the function there returns. `CommandFailed` says what is wrong with it.

    The current folder is searched first, as `python -m` does.
    """
    found = _loaded(spec, "--app")
    if not isinstance(found, FluxEngine):
        raise CommandFailed(
            f"the app {spec!r} is no engine but {_shown(found)}; name a FluxEngine(...), or a function without "
            f"arguments that returns one",
            UNUSABLE,
        )
    return found


def load_store(spec: str, option: str) -> tuple[WorkflowStorage, str | None]:
    """The store at `spec`, or that of the engine there, with the engine's tenant. `CommandFailed` if it is neither."""
    found = _loaded(spec, option)
    if isinstance(found, FluxEngine):
        return found.storage, found.tenant
    if not hasattr(found, "append") or not hasattr(found, "put_mail"):
        raise CommandFailed(
            f"{option} {spec!r} is neither an engine nor a store but {_shown(found)}; name one of them, or a file that "
            f"flux export wrote",
            UNUSABLE,
        )
    return cast("WorkflowStorage", found), None


def _loaded(spec: str, option: str) -> object:
    """What stands at `spec`; if it is a function, what that returns."""
    name, colon, attribute = spec.partition(":")
    if not (name and colon and attribute):
        raise CommandFailed(f"{option} must be module:attribute, for example shop.app:engine; got {spec!r}", USAGE)
    found: object = _module(name, spec)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise CommandFailed(_no_attribute(name, attribute, found), UNUSABLE)
        found = getattr(found, part)
    if callable(found) and not isinstance(found, FluxEngine):
        try:
            found = found()
        except Exception as error:
            raise CommandFailed(f"the app {spec!r} raised {_told(error)}; correct it there", UNUSABLE) from error
    return found


def opened(spec: str | None) -> tuple[FluxEngine, str]:
    """The engine of `--app` (or FLUX_APP) and how it was named. `CommandFailed` if it was not."""
    if spec is None:
        raise CommandFailed(
            f"say which app: --app module:attribute, --app shop.app:engine for example, or set {VARIABLE}", USAGE
        )
    return load_engine(spec), spec


def workflow_name(engine: FluxEngine, asked: str | None, spec: str) -> str:
    """The workflow to run: `asked`, or the only one there is. `CommandFailed` lists those there are."""
    known = sorted(engine.workflows)
    if not known:
        raise CommandFailed(f"the engine of {spec!r} knows no workflow; pass it FluxEngine(workflows=[...])", UNUSABLE)
    if asked is None:
        if len(known) > 1:
            raise CommandFailed(f"say which workflow, before the input file: {', '.join(known)}", USAGE)
        return known[0]
    if asked not in known:
        raise CommandFailed(f"the engine of {spec!r} has no workflow {asked!r}; it has {', '.join(known)}", USAGE)
    return asked


def _module(name: str, spec: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name.endswith(".py"):
            message = f"--app names a module, not a file: write {name.removesuffix('.py').replace('/', '.')}:..."
            raise CommandFailed(message, USAGE) from error
        if name == missing or name.startswith(f"{missing}."):
            message = (
                f"the app {spec!r} cannot be imported: there is no module {missing!r} in {here} or on Python's path; "
                f"run flux in the folder that holds it, or set PYTHONPATH"
            )
        else:
            message = f"the app {spec!r} cannot be imported: it needs {missing!r}, which is not installed; install it"
        raise CommandFailed(message, UNUSABLE) from error
    except (Exception, SystemExit) as error:
        raise CommandFailed(
            f"the app {spec!r} cannot be imported: it raised {_told(error)}; correct it there", UNUSABLE
        ) from error


def _no_attribute(name: str, attribute: str, holder: object) -> str:
    engines = [key for key, value in vars(holder).items() if isinstance(value, FluxEngine)] if name else []
    hint = f"; it has the engine {', '.join(engines)}" if engines else "; name a FluxEngine or a function returning one"
    return f"module {name!r} has no attribute {attribute!r}{hint}"


def _shown(value: object) -> str:
    return f"{type(value).__name__} ({value!r:.60})"


def _told(error: BaseException) -> str:
    """The error with the line it came from, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
        what = error.msg
    else:
        where = f"{last.filename}, line {last.lineno}" if last else "unknown place"
        what = str(error)
    return f"{type(error).__name__}: {what} ({where})"
