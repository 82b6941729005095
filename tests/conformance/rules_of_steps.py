"""Rules about single steps: conditions, time limits, attempts, outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conformance.view import View, overdue, runs, take_ours, written_by

if TYPE_CHECKING:
    Json = dict[str, Any]
    Parts = dict[str, Any]


def conditions(view: View) -> bool:
    """A condition may be asynchronous, and one that raises fails its step like the handler would."""
    for step in view.steps:
        when, name = step.get("when", {}), step.get("name", "")
        if f"when:{name}" not in view.theirs["handlers"]:
            continue
        if "promise" in when and not when["promise"] and name in runs(view.theirs["handlers"]):
            _skip_instead(view, step)
        if "throws" in when and view.theirs.get("status") == "failed":
            _fail_instead(view, step)
    return False


def _skip_instead(view: View, step: Json) -> None:
    name, theirs = step["name"], view.theirs
    calls = (f"run:{name}#", f"late:{name}#")
    theirs["handlers"] = [entry for entry in theirs["handlers"] if not entry.startswith(calls)]
    theirs["trace"] = ["step:skipped:" + name if e == "step:complete:" + name else e for e in theirs["trace"]]
    theirs["steps"] = [
        f"{name}:skipped:0" if entry.startswith(f"{name}:completed") else entry for entry in theirs["steps"]
    ]
    take_ours(view, written_by(step))


def _fail_instead(view: View, step: Json) -> None:
    name, retries, theirs = step["name"], view.retries(step), view.theirs
    theirs["handlers"] += [f"when:{name}"] * retries
    events = [event for event in theirs["trace"] if event not in {"workflow:error", "workflow:rollback_start"}]
    theirs["trace"] = [*events, *[f"step:retry:{name}"] * retries, f"step:error:{name}", "workflow:rollback_start"]
    theirs["hooks"] = [*[entry for entry in theirs["hooks"] if entry != "workflowError"], f"stepError:{name}"]
    theirs["steps"] = [
        f"{name}:failed:{retries}" if entry.startswith(f"{name}:") else entry for entry in theirs["steps"]
    ]


def late_handlers(view: View) -> bool:
    """A handler that outlasts its time limit is cut: it does nothing any more."""
    late = {step["name"] for step in view.steps if "name" in step and overdue(view, step)}
    view.theirs["handlers"] = [
        entry
        for entry in view.theirs["handlers"]
        if not (entry.startswith("late:") and entry[5:].rpartition("#")[0] in late)
    ]
    return False


def unknown_outcome(view: View) -> bool:
    """A commit that was cut may have taken effect: it is not retried blindly, an operator decides."""
    if view.ours.get("status") == "stuck" and any(s.get("commit") and overdue(view, s) for s in view.steps):
        view.accept()
        return True
    return False


def failed_attempts(view: View) -> bool:
    """What a failed attempt wrote to data vanishes."""
    keys: set[str] = set()
    for step in view.steps:
        if any("fail" in behaviour for behaviour in step.get("do", ())) or overdue(view, step):
            keys |= written_by(step)
    take_ours(view, keys)
    return False


def kept_outputs(view: View) -> bool:
    """What a handler returns is the step's output, and later steps can read it."""
    waits = {step.get("name") for step in view.steps if any("wait" in one for one in step.get("do", ()))}
    copies = [one for step in view.steps for one in step.get("do", ()) if "copyOutputOf" in one]
    take_ours(view, {one["into"] for one in copies if one["copyOutputOf"] not in waits})
    return False
