"""What takes minutes: fresh random schedules, and settings that are too wide to explore at every commit.

`make soak` runs them. Every failure names its seed, or tells its story.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.drawing import play
from tests.simulation.exploring import explore
from tests.simulation.settings import CANCEL, EXECUTE, RECOVER, SIGNAL, A, B, commit, wait_for_go
from tests.simulation.world import Setting

pytestmark = pytest.mark.soak

_SCHEDULES = 200_000

_WIDE = {
    "two sweepers and a zombie in a verified commit": Setting(
        (commit("a", "verify"),), (EXECUTE, RECOVER, RECOVER), time=2
    ),
    "two stolen leases while a commit runs that quarantines": Setting((A, commit("b")), (EXECUTE, RECOVER), time=2),
    "two stolen leases while a commit runs that verifies": Setting(
        (A, commit("b", "verify"), B._replace(name="c")), (EXECUTE, RECOVER), time=2
    ),
    "a zombie and a death between two commits": Setting(
        (commit("a", "verify"), commit("b")), (EXECUTE, RECOVER), time=2, kill=1
    ),
    "a start, a signal, a timeout and a sweeper": Setting(
        (wait_for_go("a", 50), B), (EXECUTE, SIGNAL, RECOVER), time=1
    ),
    "a start, two signals and a death": Setting((wait_for_go("a"),), (EXECUTE, SIGNAL, SIGNAL), kill=1),
    "a cancel, a zombie and a sweeper": Setting(
        (commit("a", "verify", "retry"), commit("b")), (EXECUTE, CANCEL, RECOVER), time=1
    ),
    "a cancel and a sweeper in a durable back-off": Setting(
        (commit("a", "retry", "retry"),), (EXECUTE, CANCEL, RECOVER), unknown=1, inline=0.0, time=1
    ),
}


def test_two_hundred_thousand_fresh_schedules_break_no_rule() -> None:
    first = int.from_bytes(os.urandom(4), "big") * 1_000_000
    for seed in range(first, first + _SCHEDULES):
        play(seed)


@pytest.mark.parametrize("name", _WIDE)
def test_no_schedule_of_a_wide_setting_breaks_a_rule(name: str) -> None:
    search = explore(_WIDE[name], most=2_000_000)
    print(f"{name}: {search.schedules} schedules, {search.states} states")  # noqa: T201 -- shown by pytest -s
    assert search.complete, f"cut off after {search.schedules} schedules"
