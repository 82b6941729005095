"""Which names are allowed: they build storage keys, so their form is checked once, here (PROTOCOL, Security)."""

from __future__ import annotations

from flux_core.errors import CallerError, DefinitionError

_STEP = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_:-")
_KEY = _STEP | {"."}
_LONGEST = 128


def _allowed(name: object, characters: frozenset[str]) -> bool:
    return (
        type(name) is str
        and 0 < len(name) <= _LONGEST
        and characters.issuperset(name)
        and name not in {".", ".."}
        and not (name.startswith("__") and name.endswith("__"))
    )


def check_workflow_name(name: object) -> str:
    """`name`, or `DefinitionError`."""
    if isinstance(name, str) and _allowed(name, _KEY):
        return name
    message = (
        f"the workflow name {name!r} is not allowed: use 1 to 128 of A-Z a-z 0-9 . _ : - "
        f"(not '.', '..' or '__x__'), because it becomes part of storage keys"
    )
    raise DefinitionError(message)


def check_step_name(where: str, name: object) -> str:
    """`name`, or `DefinitionError`. Step names also exclude the dot, which joins paths."""
    if isinstance(name, str) and _allowed(name, _STEP):
        return name
    message = (
        f"{where}: the step name {name!r} is not allowed: use 1 to 128 of A-Z a-z 0-9 _ : - "
        f"(no dot: it joins the names of nested steps; not '__x__')"
    )
    raise DefinitionError(message)


def check_key(what: str, name: object) -> str:
    """An instance id, signal or tenant name, or `CallerError` that says which of them is wrong."""
    if isinstance(name, str) and _allowed(name, _KEY):
        return name
    message = (
        f"the {what} {name!r} is not allowed: use 1 to 128 of A-Z a-z 0-9 . _ : - (not '.', '..' or '__x__'), "
        f"because it becomes part of storage keys; hash or encode other values first"
    )
    raise CallerError(message)
