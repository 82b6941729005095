"""A store that keeps nearly everything in a payload store: a crash at any call of either changes nothing.

The claim check stands between the engine and two stores, so one append is two calls, and an invocation may die between
them. Every third shape with a crash at each payload call, some with every fault at every call; the other two thirds by
`make soak`.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from flux_core import MemoryStorage, PayloadMissing
from flux_core.claim_check import ClaimCheckStorage
from flux_core.payloads import MemoryPayloads
from flux_core.testing import (
    CRASH_AFTER,
    CRASH_BEFORE,
    FAULTS,
    LOST_RESPONSE,
    UNAVAILABLE,
    FaultPlan,
    FaultyStorage,
    RecordingPayloads,
)
from tests.simulation.driving import Drive, held_against
from tests.simulation.matrix import once
from tests.simulation.shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flux_core import Header, InstanceRef, WorkflowStorage
    from flux_core.testing import Call
    from tests.simulation.driving import Standing
    from tests.simulation.script import Shape

INLINE = 100
"""Bytes: less than nearly every record has."""
WHOLLY = (
    "outputs",
    "a commit",
    "an idempotent commit retried later",
    "a signal sent twice",
    "a saga with a durable retry",
    "cancel with compensations",
    "a retry that keeps commits",
    "a definition that changes meanwhile",
)
"""The shapes that meet every fault at every call."""


class OutsideDrive(Drive):
    """A run of a shape, with a connection to both stores that dies as one."""

    def __init__(self, shape: Shape, faults: Mapping[int, str] | None = None) -> None:
        self.inner = MemoryStorage()
        self.payloads = MemoryPayloads()
        store = ClaimCheckStorage(self.inner, self.payloads, INLINE)
        super().__init__(shape, store, FaultPlan(faults), "1")

    def _connection(self, before: Standing | None) -> WorkflowStorage:
        storage = FaultyStorage(self.inner, self.plan)
        return ClaimCheckStorage(storage, RecordingPayloads(self.payloads, storage), INLINE)


class TooLate(ClaimCheckStorage):
    """A claim check that puts a payload after the record that names it."""

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        put, self.payloads = self.payloads, MemoryPayloads()
        try:
            found = super().append(ref, seq, record, header)
        finally:
            self.payloads = put
        self._put(ref, record)
        return found


class LateDrive(OutsideDrive):
    def _connection(self, before: Standing | None) -> WorkflowStorage:
        storage = FaultyStorage(self.inner, self.plan)
        return TooLate(storage, RecordingPayloads(self.payloads, storage), INLINE)


@cache
def calls(shape: Shape) -> list[Call]:
    """Of the run in which nothing goes wrong."""
    drive = OutsideDrive(shape)
    held_against(shape, drive)
    return drive.plan.calls


def test_a_payload_that_is_put_too_late_would_be_noticed() -> None:
    def try_all() -> None:
        for number in range(1, 20):
            held_against(named("outputs"), LateDrive(named("outputs"), {number: CRASH_BEFORE}))

    with pytest.raises((AssertionError, PayloadMissing), match=r"I14|kept outside of the store"):
        try_all()


def named(name: str) -> Shape:
    (shape,) = (shape for shape in SHAPES if shape.name == name)
    return shape


def test_most_records_of_these_runs_are_kept_outside() -> None:
    appends = [call for shape in SHAPES for call in calls(shape) if call.method == "append"]
    payloads = [call for shape in SHAPES for call in calls(shape) if call.method == "put_payload"]
    assert len(payloads) > len(appends) / 2


@pytest.mark.parametrize("shape", once(3, 1))
def test_a_crash_at_any_payload_call_changes_nothing(shape: Shape) -> None:
    for call in calls(shape):
        if call.method == "put_payload":
            held_against(shape, OutsideDrive(shape, {call.number: CRASH_BEFORE}))
            held_against(shape, OutsideDrive(shape, {call.number: CRASH_AFTER}))
        elif call.method == "get_payload":
            held_against(shape, OutsideDrive(shape, {call.number: CRASH_BEFORE}))


@pytest.mark.parametrize("shape", [named(name) for name in WHOLLY], ids=str)
def test_any_fault_at_any_call_changes_nothing(shape: Shape) -> None:
    for call in calls(shape):
        for fault in FAULTS if call.writes else (CRASH_BEFORE, UNAVAILABLE):
            held_against(shape, OutsideDrive(shape, {call.number: fault}))


@pytest.mark.parametrize("shape", [named(name) for name in WHOLLY], ids=str)
def test_a_payload_put_that_is_not_answered_once_is_tried_again(shape: Shape) -> None:
    for call, after in pairwise(calls(shape)):
        if (call.method, after.method) == ("put_payload", "append"):
            for fault in (LOST_RESPONSE, UNAVAILABLE):
                drive = OutsideDrive(shape, {call.number: fault})
                held_against(shape, drive)
                assert not drive.failures, f"{fault} of {call} ended the invocation"
