"""Random nested definitions, disturbed at random, against a reference interpreter (`nesting`).

`FLUX_BRANCHES_SEED=123 pytest tests/simulation/test_random_branches.py` plays one seed again and tells its story.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from flux_core.context import history
from flux_core.testing import story
from tests.simulation.nesting import Expected, drawn, expected
from tests.simulation.playground import REF, Playground, changed, renamed, snapshots_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SEED = os.environ.get("FLUX_BRANCHES_SEED")


def _compare(ground: Playground, wanted: Expected) -> None:
    state = ground.state
    assert state.status == wanted.status
    assert state.data == wanted.data
    entries = {step.path: step for step in history(state) if step.status != "pending"}
    if wanted.status == "completed":
        assert {path: step.status for path, step in entries.items()} == wanted.statuses
        assert {path: step.output for path, step in entries.items() if step.status == "completed"} == wanted.outputs
    else:
        assert state.failure is not None
        assert state.failure.step == wanted.failed


def calm(seed: int) -> str:
    """Nothing goes wrong but what the spec says: how the first run ended."""
    dice = Random(seed)
    ground = Playground(drawn(dice), dice, hard=False)
    with told(ground, seed):
        ground.settle()
        wanted = expected(ground.spec, mended=False, looks=True)
        _compare(ground, wanted)
        ran = [one.path for one in ground.journal if one.what == "run"]
        assert list(dict.fromkeys(ran)) == wanted.order
        assert [one.path.removesuffix("~undo") for one in ground.journal if one.what == "undo"] == wanted.undo
        ground.mended = True
        if wanted.status != "completed":
            ground.do("resume", "i")
            ground.settle()
            _compare(ground, expected(ground.followed, mended=True, looks=True))
    return wanted.status


def disturbed(seed: int) -> None:
    """Crashes, deadlines, pauses, retries and renamings change nothing of what comes out in the end."""
    dice = Random(seed)
    ground = Playground(drawn(dice), dice, hard=True)
    fresh = count()
    with told(ground, seed), snapshots_from(dice.choice((None, 500, 5000))):
        ground.do("execute", None, "i")
        for _ in range(dice.choice((3, 10, 25))):
            if ground.storage.tail(REF) is None:
                ground.do("execute", None, "i")
                continue
            _disturb(ground, dice)
            if dice.random() < 0.06:
                spec = renamed(ground.spec, dice, dice.choice((1, 1, 2, 3)), fresh)
                found = ground.fitting(spec)
                assert found.possible, found.problems
                ground.change(spec)
                ground.told.append("another definition")
            if dice.random() < 0.05:
                ground.mended = True
        _finish(ground)
        _compare(ground, expected(ground.followed, mended=True))


def mended_by_hand(seed: int) -> str:
    """Whatever operators do by hand and whatever is deployed, no rule breaks, and the instance can be ended."""
    dice = Random(seed)
    ground = Playground(drawn(dice), dice, hard=True)
    ground.honest = False
    fresh = count()
    with told(ground, seed), snapshots_from(dice.choice((None, 500, 5000))):
        ground.do("execute", None, "i")
        for _ in range(dice.choice((5, 15, 30))):
            if ground.storage.tail(REF) is None:
                ground.do("execute", None, "i")
                continue
            verb = dice.choices(("", "complete_step", "skip_step", "retry_data", "cancel"), (10, 2, 2, 2, 0.4))[0]
            path = _path(ground, dice)
            if ground.state.status == "stuck" and verb:
                ground.mend_stuck(ground.state, calm=False)
            elif verb == "retry_data":
                ground.do("retry_step", "i", path, data={"n": dice.randrange(100)}, force=dice.random() < 0.5)
            elif verb == "complete_step":
                ground.do(verb, "i", path, ["by hand"])
            elif verb:
                ground.do(verb, "i", *(() if verb == "cancel" else (path,)))
            else:
                _disturb(ground, dice)
            if dice.random() < 0.12:
                spec = changed(ground.spec, dice, fresh)
                found = ground.fitting(spec)
                ground.told.append(f"another definition: {found!r}")
                if found.possible:
                    ground.change(spec)
            if dice.random() < 0.05:
                ground.mended = True
        _finish(ground)
        state = ground.state
        if state.status == "completed":
            assert not state.frames
            assert not state.lanes
    return state.status


def _finish(ground: Playground) -> None:
    ground.settle(calm=ground.dice.random() < 0.5)
    ground.mended = True
    for _ in range(5):
        state = ground.settle()
        if state.status not in {"failed", "rolled_back"}:
            break
        if ground.do("resume", "i", calm=True) is None:  # what is new in an iteration that has ended has no turn
            ground.do("retry_step", "i", state.names[0], calm=True)
    assert ground.state.status in {"completed", "cancelled"}
    ground.workflow = ground.definition(ground.spec)


def _disturb(ground: Playground, dice: Random) -> None:
    verb = dice.choices(_VERBS, (6, 4, 1, 2, 5, 4, 3, 3))[0]
    state = ground.state
    if verb in {"recover", "wake"} and dice.random() < 0.8:
        ground.pass_time()
    if verb == "signal":
        name = ground.awaited(state) or "s0"
        ground.do("signal", "i", name, {"signal": name})
    elif verb == "stuck" or state.status == "stuck":
        if state.status == "stuck":
            ground.mend_stuck(state, calm=False)
    elif verb == "retry":
        ground.do("retry_step", "i", _path(ground, dice), force=dice.random() < 0.5)
    elif verb == "recover":
        ground.do("recover")
    else:
        ground.do(verb, "i")


_VERBS = ("recover", "wake", "pause", "unpause", "signal", "retry", "resume", "stuck")


def _path(ground: Playground, dice: Random) -> str:
    paths = list(ground.state.steps) or ["a"]
    if dice.random() < 0.1:
        paths = list(expected(ground.spec, mended=True).seen.values())
    return dice.choice(paths)


@contextmanager
def told(ground: Playground, seed: int) -> Iterator[None]:
    """Adds to whatever fails within it the seed, what was done, and the story."""
    try:
        yield
    except Exception as error:
        there = ground.storage.tail(REF) is not None
        lines = [f"FLUX_BRANCHES_SEED={seed} plays it again", *ground.told]
        error.add_note("\n".join([*lines, story(ground.storage, REF, ground.journal) if there else ""]))
        raise


def _seeds(count: int) -> Iterable[int]:
    return range(count) if _SEED is None else [int(_SEED)]


def test_an_undisturbed_run_gives_what_the_definition_says() -> None:
    statuses = Counter(calm(seed) for seed in _seeds(50))
    assert _SEED is not None or statuses.keys() == {"completed", "failed", "rolled_back"}


def test_crashes_deadlines_pauses_retries_and_new_names_change_nothing_of_what_comes_out() -> None:
    for seed in _seeds(55):
        disturbed(seed)


def test_whatever_is_done_by_hand_or_deployed_no_rule_breaks_and_the_instance_can_be_ended() -> None:
    statuses = Counter(mended_by_hand(seed) for seed in _seeds(40))
    assert _SEED is not None or statuses.keys() == {"completed", "cancelled"}
