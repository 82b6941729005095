"""A second opinion on changed definitions: what an instance is to do, by the rules as docs/changing.md has them.

It shares no code with the machine: it keeps a plain list of what has happened. Nothing dies here and nobody comes at
the same time; those have their own tests.
"""

from __future__ import annotations

from typing import NamedTuple

Call = tuple[str, dict[str, object]]
"""What runs, and the data that it finds."""


class Spec(NamedTuple):
    """A step of a definition."""

    name: str
    commit: bool = False
    waits: bool = False
    undo: bool = False
    aliases: tuple[str, ...] = ()


Specs = tuple[Spec, ...]


class Entry:
    """Something that has happened. Without a name it is only what it wrote."""

    def __init__(self, name: str, status: str, wrote: dict[str, object] | None = None) -> None:
        self.name: str | None = name
        self.status = status
        self.wrote = wrote or {}


class Model:
    """What an instance is to do, by the rules."""

    def __init__(self, specs: Specs) -> None:
        self.specs = specs
        self.known = {spec.name for spec in specs}
        self.returned: set[str] = set()
        """Names that were gone and are there again, or took effect before their turn: no rule says which data a retry
        of them finds."""
        self.track: list[Entry] = []
        self.kept: dict[str, dict[str, object]] = {}
        self.fails: set[str] = set()
        self.calls: list[Call] = []
        self.mail = 0
        self.count = 0
        self.status = "running"

    # --- what is known ---------------------------------------------------------------------------------------

    def entry(self, name: str) -> Entry | None:
        return next((entry for entry in self.track if entry.name == name), None)

    def is_done(self, name: str) -> bool:
        entry = self.entry(name)
        return entry is not None and entry.status in {"completed", "skipped"}

    def data(self) -> dict[str, object]:
        return {key: value for entry in self.track for key, value in entry.wrote.items()}

    def history(self) -> dict[str, str]:
        entries = {spec.name: self.entry(spec.name) for spec in self.specs}
        return {name: "pending" if entry is None else entry.status for name, entry in entries.items()}

    # --- a changed definition --------------------------------------------------------------------------------

    def take_over(self, specs: Specs, *, only_look: bool = False) -> bool:
        """Whether `specs` can continue the instance; if so it does."""
        old = self.specs
        if [(spec.name, spec.commit) for spec in specs] == [(spec.name, spec.commit) for spec in old]:
            return True
        names = {spec.name for spec in old}
        now = {name: name for name in names & {spec.name for spec in specs}}
        for spec in specs:
            was = [alias for alias in spec.aliases if alias in names] if spec.name not in names else []
            if len(was) > 1 and any(self._has_begun(alias) for alias in was):
                return False
            now |= dict.fromkeys(was[:1], spec.name)
        place = {spec.name: index for index, spec in enumerate(specs)}
        commits = {spec.name for spec in specs if spec.commit}
        for spec in old:
            entry = self.entry(spec.name)
            made = spec.name in self.kept or (entry is not None and entry.status == "completed")
            if made and spec.commit and now.get(spec.name) not in commits:
                return False
            waits = entry is not None and entry.status == "suspended" and self.status not in _ENDED
            if ((made and spec.undo) or waits) and spec.name not in now:
                return False
        begun, at = -1, 0
        while at < len(old) and self.is_done(old[at].name):
            here = place[now[old[at].name]] if old[at].name in now else begun
            if here < begun:
                return False
            begun, at = here, at + 1
        if at < len(old) and self.history()[old[at].name] == "suspended" and self.status not in _ENDED:
            begun = max(begun, place[now[old[at].name]])
        for spec in old[at:]:
            if not self.is_done(spec.name) and spec.name in now and place[now[spec.name]] < begun:
                return False
        if not only_look:
            self._become(specs, now, begun)
        return True

    def _has_begun(self, name: str) -> bool:
        entry = self.entry(name)
        waits = entry is not None and entry.status == "suspended" and self.status not in _ENDED
        return name in self.kept or self.is_done(name) or waits

    def _become(self, specs: Specs, now: dict[str, str], begun: int) -> None:
        names = {spec.name for spec in self.specs}
        renamed = {old: new for old, new in now.items() if old != new}
        for entry in self.track:
            if entry.name in renamed.values():
                entry.name = None
        for entry in self.track:
            if entry.name in names - now.keys() and entry.status in {"failed", "suspended"}:
                entry.name = None
            elif entry.name is not None:
                entry.name = renamed.get(entry.name, entry.name)
        self.kept = {now[name]: wrote for name, wrote in self.kept.items()}
        for index, spec in enumerate(specs):
            once = self.entry(spec.name)
            if spec.name in now.values():
                continue
            if index >= begun:
                if once is not None and once.status in {"completed", "skipped"}:
                    once.name = None
            elif once is None:
                behind = {later.name for later in specs[index:]}
                at = next(place for place, entry in enumerate(self.track) if entry.name in behind)
                self.track.insert(at, Entry(spec.name, "skipped"))
            elif once.status != "completed":
                once.status = "skipped"
        self.returned |= {spec.name for spec in specs} - set(now.values())
        self.returned &= self.known
        self.known |= {spec.name for spec in specs}
        self.specs = specs

    # --- verbs -----------------------------------------------------------------------------------------------

    def may_retry(self, specs: Specs) -> bool:
        """Whether the rules say what a retry in `specs` finds."""
        names = {spec.name for spec in specs}
        again = (names - {spec.name for spec in self.specs}) & self.known
        return not again and not names & self.returned

    def run(self, specs: Specs) -> None:
        self.status = "running"
        for spec in specs:
            if self.is_done(spec.name):
                continue
            entry = self.entry(spec.name)
            if entry is None and spec.name in self.kept:
                self.track.append(Entry(spec.name, "completed", self.kept.pop(spec.name)))
                continue
            if entry is None or entry.status != "suspended":
                entry = self._call(spec)
                if entry.status == "failed":
                    return self._undo(specs, "failed")
            if entry.status == "suspended":
                if not self.mail:
                    self.status = "suspended"
                    return None
                self.mail -= 1
                entry.status = "completed"
        self.status = "completed"
        return None

    def _call(self, spec: Spec) -> Entry:
        self.calls.append((spec.name, self.data()))
        entry = Entry(spec.name, "failed" if spec.name in self.fails else "suspended" if spec.waits else "completed")
        if entry.status != "failed":
            self.count += 1
            entry.wrote = {spec.name: self.count}
        self.track.append(entry)
        return entry

    def _undo(self, specs: Specs, end: str) -> None:
        self.track += [
            Entry(spec.name, "completed", self.kept[spec.name]) for spec in specs if spec.name in self.kept
        ]  # fmt: skip
        self.returned |= self.kept.keys()
        self.kept.clear()
        undo = {spec.name for spec in specs if spec.undo}
        for entry in reversed(self.track):
            if entry.name in undo and entry.status == "completed":
                self.calls.append((f"undo {entry.name}", self.data()))
                entry.status = "compensated"
        undone = any(entry.status == "compensated" and entry.name for entry in self.track)
        self.status = "rolled_back" if undone and end == "failed" else end

    def go_on(self, specs: Specs) -> None:
        """A tick that has something to do."""
        if self.take_over(specs):
            self.run(specs)
        else:
            self.status = "blocked"

    def execute(self, specs: Specs) -> bool:
        self.run(specs)
        return True

    def signal(self, specs: Specs, _name: str) -> bool:
        if self.status in {"completed", "cancelled"}:
            return False
        self.mail += 1
        if self.status in {"suspended", "blocked"}:
            self.go_on(specs)
        return True

    def wake(self, specs: Specs) -> bool:
        if self.status == "blocked" or (self.status == "suspended" and not self.take_over(specs, only_look=True)):
            self.go_on(specs)
        return True

    def pause(self, specs: Specs) -> bool:
        if self.status == "suspended":
            self.status = "paused"
        return self.status == "paused"

    def unpause(self, specs: Specs) -> bool:
        if self.status == "paused":
            self.status = "suspended"
            if self.mail:
                self.go_on(specs)
                return True
        return self.wake(specs)

    def cancel(self, specs: Specs) -> bool:
        if self.status in {"suspended", "paused"}:
            self._undo(specs, "cancelled")
            for entry in self.track:
                if entry.status == "suspended":
                    entry.status = "pending"  # it waits for nothing any more
        return self.status != "completed"

    def resume(self, specs: Specs) -> bool:
        return self.retry_step(specs, None)

    def retry_step(self, specs: Specs, target: str | None, *, force: bool = False) -> bool:
        """`resume` without a target."""
        if self.status == "paused" or (self.status in {"completed", "cancelled"} and not force):
            return False
        if not self.take_over(specs):
            return False
        names = [spec.name for spec in specs]
        statuses = self.history()
        if target is None:
            passed = {"completed", "skipped", "compensated"}
            target = next((name for name in names if statuses[name] not in passed), names[-1])
        first = names.index(target)
        first = next((place for place in range(first) if statuses[names[place]] == "compensated"), first)
        if not all(self.is_done(name) for name in names[:first]):
            return False
        self._go_back(specs, first, target if force else None)
        self.run(specs)
        return True

    def _go_back(self, specs: Specs, first: int, forced: str | None) -> None:
        ahead = {spec.name for spec in specs[:first]}
        reset = {spec.name for spec in specs[first:]}
        kept = dict(self.kept)
        for spec in specs[first:]:
            entry = self.entry(spec.name)
            if entry is not None and entry.status == "completed" and spec.commit:
                kept[spec.name] = entry.wrote
        kept.pop(forced or "", None)
        last = max((place + 1 for place, entry in enumerate(self.track) if entry.name in ahead), default=0)
        turn = min((place for place, entry in enumerate(self.track) if entry.name in reset), default=len(self.track))
        del self.track[max(last, turn) :]
        for entry in self.track:
            if entry.name in reset:
                entry.name = None
        self.kept = kept


_ENDED = {"completed", "failed", "rolled_back", "cancelled"}
