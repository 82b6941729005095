"""Every interleaving, death, stolen lease and lost answer of small settings, on the real engine (PROTOCOL, Races).

The search is complete: depth-first over all choices, a state that was seen before is not entered again. Run with
`-s` to see how many schedules and states that were.
"""

from __future__ import annotations

import pytest

from tests.simulation.exploring import explore
from tests.simulation.settings import SETTINGS


@pytest.mark.parametrize("name", SETTINGS)
def test_no_schedule_breaks_a_rule(name: str) -> None:
    search = explore(SETTINGS[name])
    print(f"{name}: {search.schedules} schedules, {search.states} states")  # noqa: T201 -- shown by pytest -s
    assert search.complete, f"cut off after {search.schedules} schedules"
    assert search.states > 10, "a setting in which next to nothing can happen proves nothing"
