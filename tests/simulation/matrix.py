"""The crash matrix: every shape, with every fault at every storage call that it makes. It must not know a store.

A store is struck in two ways. `strike_once` plays a shape with one fault at one of its writes; over all shapes the
faults and the methods take turns. `strike` plays it with a fault at each of its calls, which takes hours on a store
behind a network: so `once` and `whole` leave most of it to `make soak`.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

import pytest

from flux_core.testing import CRASH_AFTER, CRASH_BEFORE, LOST_RESPONSE, UNAVAILABLE
from tests.simulation.driving import disturbed, undisturbed
from tests.simulation.shapes import PLAIN_SHAPES, SHAPES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from flux_core import WorkflowStorage
    from flux_core.testing import Call
    from tests.simulation.script import Shape

ONE_BLOW = {
    "the invocation dies before the call": {0: CRASH_BEFORE},
    "the invocation dies after the call": {0: CRASH_AFTER},
    "the response is lost": {0: LOST_RESPONSE},
    "the store does not answer": {0: UNAVAILABLE},
    "the response is lost, and the store does not answer the second try": {0: LOST_RESPONSE, 1: UNAVAILABLE},
    "the store is down for two calls": {0: UNAVAILABLE, 1: UNAVAILABLE},
}
"""What can go wrong from call n on: offset -> fault."""
SINGLE = [blow for blow, faults in ONE_BLOW.items() if len(faults) == 1]
FOR_READS = frozenset({"the invocation dies before the call", "the store does not answer"})
"""The faults that differ for a call that changes nothing."""


def strike(shape: Shape, store: WorkflowStorage, blow: str) -> None:
    """The blow at each of the shape's calls, a run for each."""
    for call in undisturbed(shape).calls:
        if call.writes or blow in FOR_READS:
            _struck(shape, store, call, blow)


def strike_once(shape: Shape, store: WorkflowStorage) -> None:
    """One blow at one write."""
    _struck(shape, store, *turns()[shape.name])


@cache
def turns() -> dict[str, tuple[Call, str]]:
    """Which write of each shape `strike_once` strikes, and how: the methods take turns, and for each all blows do."""
    struck: Counter[str] = Counter()
    found = {}
    for shape in SHAPES:
        writes = [call for call in undisturbed(shape).calls if call.writes]
        method = min((call.method for call in writes), key=lambda one: (struck[one], one))
        turn = struck[method]
        of_one = [call for call in writes if call.method == method]
        found[shape.name] = of_one[turn % len(of_one)], [*ONE_BLOW][turn % len(ONE_BLOW)]
        struck[method] += 1
    return found


def once(every: int, first: int) -> list[Any]:
    """All shapes, for `parametrize`; only one in `every`, from place `first` on, is not for `make soak` alone."""
    return [
        pytest.param(shape, marks=() if place % every == first else pytest.mark.soak, id=str(shape))
        for place, shape in enumerate(SHAPES)
    ]


def whole(quick: Mapping[str, Collection[str]]) -> list[Any]:
    """All of the matrix, for `parametrize`; what is not in `quick` (shape -> blows) is for `make soak`."""
    return [
        pytest.param(
            shape, blow, marks=() if blow in quick.get(shape.name, ()) else pytest.mark.soak, id=f"{shape}-{blow}"
        )
        for shape in SHAPES
        for blow in (ONE_BLOW if shape in PLAIN_SHAPES else SINGLE)
    ]


def _struck(shape: Shape, store: WorkflowStorage, call: Call, blow: str) -> None:
    disturbed(shape, store, {call.number + offset: fault for offset, fault in ONE_BLOW[blow].items()})
