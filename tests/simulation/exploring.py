"""All schedules of a setting, one after the other; a broken rule is told with the story that led to it."""

from __future__ import annotations

from tests.simulation.scheduler import Exhaustive, Scripted
from tests.simulation.world import Setting, Violated, World


def explore(setting: Setting, most: int = 200_000) -> Exhaustive:
    """Play every schedule of `setting` (at most `most`); `Violated` tells the first that breaks a rule."""
    search = Exhaustive(most)
    for schedule in search.runs():
        try:
            World(setting).run(schedule)
        except Violated as broken:
            raise Violated(f"schedule {search.schedules}: {_told(setting, search.taken)}") from broken
    return search


def _told(setting: Setting, taken: list[int]) -> str:
    try:
        World(setting, story=True).run(Scripted(taken))
    except Violated as broken:
        return str(broken)
    return f"the choices {taken} broke a rule once, and not when they were told again: the engine is not deterministic"
