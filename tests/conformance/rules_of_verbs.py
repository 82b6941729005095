"""Rules about verbs on an instance: signals, retry, resume, and which instance a verb means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conformance.groups import flat, places
from tests.conformance.view import View, runs, take_ours, written_by

if TYPE_CHECKING:
    Json = dict[str, Any]
    Parts = dict[str, Any]


def kept_signals(view: View) -> bool:
    """A signal that nobody awaits yet is kept, not refused and not thrown away."""
    quiet = not (view.ours["handlers"] or view.ours["trace"])
    if view.op["op"] == "signal" and view.ours["outcome"] == "result" and quiet and view.theirs["outcome"] == "threw":
        view.replace(**{part: view.before.get(part) for part in ("status", "steps", "data")})
        return True
    return False


def other_workflow(view: View) -> bool:
    """A verb names the workflow and the id: the same id of another workflow is another instance."""
    if view.threw == "UnknownInstance" and view.spec["name"] != view.case["workflow"]["name"]:
        view.replace(outcome="threw")
        return True
    return False


def changed_definition(view: View) -> bool:
    """An instance whose workflow has other steps now is blocked, or the verb is refused; it is never run on them."""
    main = view.case["workflow"]
    shapes = [
        [(place.path, step.get("commit", False)) for place, step in zip(places(s), flat(s), strict=True)]
        for s in (view.spec["steps"], main["steps"])
    ]
    if view.spec["name"] != main["name"] or shapes[0] == shapes[1]:
        return False
    if view.ours.get("status") == "blocked" or view.threw in {"Refused", "UnknownStep"}:
        view.accept()
        return True
    return False


# --- retry and resume -----------------------------------------------------------------------------------------------


def refused_verbs(view: View) -> bool:
    """`retry_step` of a completed instance needs force, `resume` is for failed ones, no failed step is jumped over."""
    verbs = {inner["op"] for inner in view.op.get("ops", [view.op])}
    if not verbs <= {"retryStep", "resume"} or not view.before:
        return False
    if view.op["op"] == "concurrent":
        if view.before["status"] == "completed" and all(one == {"outcome": "threw"} for one in view.ours["results"]):
            view.replace(results=view.ours["results"])
            return True
        return False
    if view.threw == "Refused" and view.theirs["outcome"] == "result":
        target = view.op.get("step", view.op.get("fromStep"))
        names = [step.get("name") for step in view.steps]
        place = target if isinstance(target, int) else names.index(target) if target in names else 0
        jumps = any(":failed:" in entry for entry in view.before["steps"][:place])
        jumps = jumps or any(":compensation_failed:" in entry for entry in view.before["steps"])
        if view.before["status"] in {"completed", "running"} or jumps:
            view.replace(outcome="threw")
            return True
    return False


def resume_ticks(view: View) -> bool:
    """`resume` of a suspended instance ticks it: the step that waits goes on waiting."""
    waiting = view.before.get("status") == "suspended" == view.ours.get("status")
    if view.op["op"] == "resume" and waiting and not view.ours["handlers"] and view.theirs["outcome"] == "result":
        view.replace(**{part: view.before[part] for part in ("status", "steps", "data")})
        return True
    return False


def retry_after_rollback(view: View) -> bool:
    """After a rollback effects that were undone are made again: the retry starts at the earliest compensated step."""
    undone = [entry.split(":")[0] for entry in view.before.get("steps", ()) if ":compensated:" in entry]
    if view.op["op"] not in {"retryStep", "resume"} or not undone or view.ours["outcome"] != view.theirs["outcome"]:
        return False
    mine, their = runs(view.ours["handlers"]), runs(view.theirs["handlers"])
    names = [step.get("name") for step in view.steps]
    earlier = mine[:1] == undone[:1] and their and mine[-len(their) :] == their and len(mine) > len(their)
    if earlier and mine == names[names.index(mine[0]) :][: len(mine)]:
        view.accept()
        return True
    return False


def kept_commits(view: View) -> bool:
    """A commit that succeeded is not run again by a retry of an earlier step."""
    if view.op["op"] not in {"retryStep", "resume"}:
        return False
    done = {entry.split(":")[0] for entry in view.before.get("steps", ()) if ":completed:" in entry}
    for step in view.steps:
        name = step.get("name", "")
        if step.get("commit") and name in done and name in runs(view.theirs["handlers"]):
            if name in runs(view.ours["handlers"]):
                continue
            theirs = view.theirs
            theirs["handlers"] = [e for e in theirs["handlers"] if not e.startswith(f"run:{name}#")]
            theirs["trace"] = [e for e in theirs["trace"] if e not in {f"step:start:{name}", f"step:complete:{name}"}]
            theirs["hooks"] = [e for e in theirs["hooks"] if e not in {f"stepStart:{name}", f"stepComplete:{name}"}]
            take_ours(view, written_by(step))
    return False


def restored_data(view: View) -> bool:
    """`retry_step` and `resume` put data back to what it was before the first step that runs again."""
    verbs = {"retryStep", "resume"}
    if not any(op["op"] in verbs for op in view.case["ops"][: view.index + 1]):
        return False
    again = {
        name
        for index, op in enumerate(view.case["ops"][: view.index + 1])
        if op["op"] in verbs
        for name in runs(view.all_ours[index]["handlers"])
    }
    take_ours(view, {key for name in again for key in written_by(view.step(name))})
    return False
