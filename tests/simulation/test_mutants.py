"""Each rule broken on purpose is caught: a check that nothing can fail checks nothing (PROTOCOL, Broken variants).

That the same settings pass on the engine as it is, is `test_exhaustive`.
"""

from __future__ import annotations

import pytest

from tests.simulation.exploring import explore
from tests.simulation.mutants import MUTANTS, living
from tests.simulation.settings import SETTINGS
from tests.simulation.world import Violated


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str) -> None:
    mutant = MUTANTS[name]
    setting = SETTINGS[mutant.setting]._replace(store=mutant.store)
    with living(mutant), pytest.raises(Violated) as caught:
        explore(setting)
    broken = str(caught.value).partition("the story:")[0]
    assert any(f"{rule}: " in broken for rule in mutant.breaks), broken


def test_after_a_mutant_the_engine_is_itself_again() -> None:
    for mutant in MUTANTS.values():
        before = [(owner, name, vars(owner).get(name)) for owner, name, _ in mutant.patches()]
        with living(mutant):
            pass
        assert [(owner, name, vars(owner).get(name)) for owner, name, _ in before] == before
