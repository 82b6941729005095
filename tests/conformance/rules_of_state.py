"""Rules about definitions, the store, hooks and ownership: from what the original did to what we do instead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.conformance.view import ENDED_BADLY, View, runs, take_ours

if TYPE_CHECKING:
    Json = dict[str, Any]
    Parts = dict[str, Any]


def refused_definitions(view: View) -> bool:
    """A definition with no steps, a time limit of 0, a name twice, ... is refused before anything runs."""
    names = [step.get("name", "") for step in view.steps]
    settings = [view.config, *view.steps]
    wrong = (
        not names
        or any(not step.get("parallel", True) for step in view.spec["steps"])
        or len(set(names)) < len(names)
        or any(not _NAME.fullmatch(name) for name in (*names, view.spec["name"]))
        or any(one.get("timeout", one.get("defaultTimeout", 1)) <= 0 for one in settings)
        or any(one.get("retries", one.get("defaultRetries", 0)) < 0 for one in settings)
    )
    if view.threw == "DefinitionError" and wrong and view.theirs["outcome"] in {"result", "nothing"}:
        view.replace(outcome="threw")
        return True
    return False


_NAME = re.compile(r"[A-Za-z0-9_:.-]{1,128}")


def no_writing(view: View) -> bool:
    """Nobody writes an instance's state from outside."""
    if view.ours["outcome"] == "unsupported" and view.op["op"] in {"saveState", "patchStored"}:
        view.replace(outcome="unsupported")
        return True
    return False


def hooks(view: View) -> bool:
    """A hook that raises changes nothing: we do what we do when it does not raise."""
    if "hookThrows" not in view.config or view.theirs == view.ours:
        return False
    changed = any("workflowError" in parts["hooks"] for parts in view.original[: view.index + 1])
    if changed and view.ours == view.without("hookThrows"):
        view.accept()
        return True
    return False


def store_failures(view: View) -> bool:
    """A write that failed is tried again with the same bytes; if that fails too the verb raises."""
    if "failSaveAt" in view.config:
        again = view.ours == view.without("failSaveAt")
        if (again or view.threw == "StorageUnavailable") and view.theirs != view.ours:
            view.accept()
            return True
    return False


def created_at(view: View) -> bool:
    """`created_at` is written once."""
    if view.op["op"] == "createdAtStable" and view.theirs.get("value") == {"sameAsFirst": False}:
        view.theirs["value"] = {"sameAsFirst": True}
    return False


def no_locks(view: View) -> bool:
    """There is no lock provider: an instance has an owner by its lease."""
    view.theirs["handlers"] = [entry for entry in view.theirs["handlers"] if not entry.startswith("lock:")]
    if "lockProvider" in view.config and view.theirs["outcome"] == "threw" and view.ours["outcome"] == "result":
        view.accept()  # the lock was not to be had; the instance was
        return True
    return False


def no_optimizer(view: View) -> bool:
    """Data is given back as it was written, however big."""
    data, ours = view.theirs.get("data"), view.ours.get("data")
    if isinstance(data, dict) and isinstance(ours, dict):
        take_ours(view, {key for key, value in data.items() if isinstance(value, dict) and value.get("__ref") is True})
    return False


def unknown_ids(view: View) -> bool:
    """An unknown id is a typed error for every verb."""
    if view.threw == "UnknownInstance" and view.theirs["outcome"] == "nothing":
        view.theirs["outcome"] = "threw"
    return False


def stored_status(view: View) -> bool:
    """What is stored is the truth: `running` while it runs, and the final status at the end."""
    status = view.theirs.get("status")
    if view.op["op"] == "startAsync" and status == "pending" and view.ours.get("status") == "running":
        view.theirs["status"] = "running"
    if view.op["op"] == "get" and status in {"running", "rolling_back"}:
        told = next((parts for parts in reversed(view.expected) if "status" in parts), {})
        if told.get("status") in ENDED_BADLY:
            view.theirs["status"] = told["status"]
    if view.op["op"] == "list" and isinstance(view.theirs.get("value"), list) and view.before:
        mine = view.ours.get("value", [])
        if len(mine) == len(view.theirs["value"]) and view.before.get("status") in ENDED_BADLY:
            view.theirs["value"] = [
                own if their.endswith((":running", ":rolling_back")) else their
                for own, their in zip(mine, view.theirs["value"], strict=True)
            ]
    return False


def one_owner(view: View) -> bool:
    """Of two verbs at the same time one runs the steps; the other finds the instance owned."""
    if view.op["op"] != "concurrent" or "results" not in view.ours:
        return False
    mine, their = runs(view.ours["handlers"]), runs(view.theirs["handlers"])
    if len(set(mine)) == len(mine) < len(their) and set(mine) == set(their):
        view.accept()
        return True
    return False
