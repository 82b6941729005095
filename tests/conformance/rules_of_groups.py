"""Rules about parallel groups: from what the original did with their members to what we do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conformance.view import ENDED_BADLY, View, runs, take_ours, written_by

if TYPE_CHECKING:
    Json = dict[str, Any]
    Parts = dict[str, Any]


def waits_in_groups(view: View) -> bool:
    """A wait in a group is a wait: the instance is suspended until the signal comes, and nothing behind it runs."""
    for group in _groups(view):
        waits = [name for name in group if any("wait" in one for one in view.step(name).get("do", ()))]
        passed = [name for name in waits if f"step:complete:{name}" in view.theirs["trace"]]
        if not passed or "steps" not in view.theirs:
            continue
        _stop_behind(view, group, "suspended")
        theirs = view.theirs
        waited = {f"step:complete:{name}": f"step:suspend:{name}" for name in passed}
        theirs["trace"] = [waited.get(event, event) for event in theirs["trace"]]
        theirs["hooks"] = [entry for entry in theirs["hooks"] if entry not in {f"stepComplete:{n}" for n in passed}]
        return True
    return False


def write_conflicts(view: View) -> bool:
    """Members see their own data; a key of `ctx.data` that two of them write fails the group."""
    for group in _groups(view):
        done = [name for name in group if f"step:complete:{name}" in view.theirs["trace"]]
        ran = [name for name in done if name in runs(view.theirs["handlers"])]
        keys = [key for name in ran for key in written_by(view.step(name))]
        if len(done) < len(group) or len(set(keys)) == len(keys) or view.ours.get("status") not in ENDED_BADLY:
            continue
        _stop_behind(view, group, "failed")
        view.theirs["trace"].append("workflow:rollback_start")
        return True
    return False


def failed_groups(view: View) -> bool:
    """Members' data comes together when all have succeeded; a failed member keeps its number of retries."""
    if view.theirs.get("status") not in {*ENDED_BADLY, "running", "rolling_back"}:
        return False
    theirs = view.theirs
    for group in _groups(view):
        failed = [name for name in group if any(entry.startswith(f"{name}:failed:") for entry in theirs["steps"])]
        if not failed:
            continue
        retried = {name: theirs["trace"].count(f"step:retry:{name}") for name in failed}
        theirs["steps"] = [
            f"{name}:failed:{retried[name]}" if name in retried and "step:start:" + name in theirs["trace"] else entry
            for entry, name in ((entry, entry.split(":")[0]) for entry in theirs["steps"])
        ]
        take_ours(view, _keys(view, group))
    return False


def retries_in_groups(view: View) -> bool:
    """A retry inside a group runs its target and what has failed or was undone there; what has completed stays."""
    if view.op["op"] not in {"retryStep", "resume"} or view.before.get("status") not in ENDED_BADLY:
        return False
    done = {entry.split(":")[0] for entry in view.before["steps"] if ":completed:" in entry}
    target = view.op.get("step", view.op.get("fromStep"))
    names = [step.get("name", "") for step in view.steps]
    named = names[target] if isinstance(target, int) else target
    mine = runs(view.ours["handlers"])
    for group in _groups(view):
        again = [name for name in group if name not in done or name == named]
        inside = [name for name in mine if name in group]
        before = bool(mine) and names.index(mine[0]) < names.index(group[0])
        if inside and not before and set(inside) == set(again) and view.theirs["outcome"] == "result":
            view.accept()
            return True
    return False


def _groups(view: View) -> list[list[str]]:
    found: dict[int, list[str]] = {}
    for name, (group, _) in view.members.items():
        found.setdefault(group, []).append(name)
    return list(found.values())


def _keys(view: View, names: list[str]) -> set[str]:
    """The keys of data that steps or their compensators write."""
    steps = [view.step(name) for name in names]
    undos = [{"do": [step["compensate"]]} for step in steps if "compensate" in step]
    return {key for step in (*steps, *undos) for key in written_by(step)}


def _stop_behind(view: View, group: list[str], status: str) -> None:
    """Expect that nothing came after the steps of the group, and that nothing was undone."""
    theirs = view.theirs
    names = [step.get("name", "") for step in view.steps]
    behind = names[names.index(group[-1]) + 1 :]
    for part in ("handlers", "trace", "hooks"):
        entries = theirs[part]
        places = [
            place
            for place, entry in enumerate(entries)
            if entry.partition("#")[0].rpartition(":")[2] in group and "compensate" not in entry
        ]
        theirs[part] = entries[: places[-1] + 1] if places else entries
    theirs["status"] = status
    theirs["steps"] = [
        f"{name}:pending:0" if name in behind else f"{name}:{state.replace('compensated', 'completed')}:{retries}"
        for name, state, retries in (entry.rsplit(":", 2) for entry in theirs["steps"])
    ]
    take_ours(view, _keys(view, [*group, *behind]))
