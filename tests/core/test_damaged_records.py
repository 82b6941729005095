"""A log that cannot be read is refused, naming the key, and never guessed at or written to."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    CorruptRecord,
    FluxEngine,
    InstanceRef,
    MemoryStorage,
    NonRetryable,
    create_workflow,
    wait,
)
from flux_core.testing import VirtualClock

if TYPE_CHECKING:
    from flux_core import WorkflowBuilder
    from flux_core.context import Context

REF = InstanceRef("default", "w", "1")
OTHERS: tuple[object, ...] = (None, 7, "text", [], {}, [None], {"a": None}, [[1, 2], None, None])


def _long_life() -> tuple[WorkflowBuilder, list[bytes]]:
    """The log of an instance that has been through nearly everything."""
    repaired: list[bool] = []

    def fails(ctx: Context) -> None:
        if not repaired:
            raise NonRetryable("no")

    workflow = (
        create_workflow("w")
        .step("a", lambda ctx: ctx.data.update(x=1))
        .commit("charge", lambda ctx: {"paid": 1}, compensate=lambda ctx: None)
        .step("skipped", lambda ctx: None, when=lambda ctx: False)
        .step("ask", lambda ctx: wait("go", 60, on_timeout="nobody"))
        .step("fails", fails)
        .step("last", lambda ctx: wait("go"))
    )
    store = MemoryStorage()
    engine = FluxEngine(store, workflows=[workflow], clock=VirtualClock())
    engine.execute(workflow, {"x": 1}, "1")
    engine.signal(workflow, "1", "go", 1, "m1")
    repaired.append(True)
    engine.retry_step(workflow, "1", "fails")
    engine.pause(workflow, "1", who="ann")
    engine.unpause(workflow, "1")
    changed = (
        create_workflow("w", timeout=60)
        .step("new", lambda ctx: None)
        .step("a", lambda ctx: ctx.data.update(x=1))
        .commit("paid", lambda ctx: {"paid": 1}, compensate=lambda ctx: None, aliases="charge")
        .step("skipped", lambda ctx: None, when=lambda ctx: False)
        .step("ask", lambda ctx: wait("go", 60, on_timeout="nobody"))
        .step("fails", fails)
        .step("last", lambda ctx: wait("go"))
    )
    engine.retry_step(changed, "1", "ask")
    engine.cancel(changed, "1", "enough")
    return changed, store.read(REF)


WORKFLOW, LOG = _long_life()


@pytest.mark.parametrize("seq", range(len(LOG)), ids=lambda seq: f"{seq}-{json.loads(LOG[seq])['t']}")
def test_whatever_field_of_a_record_is_missing_or_of_another_kind(seq: int) -> None:
    tree: dict[str, Any] = json.loads(LOG[seq])
    refused = 0
    for name, right in tree.items():
        damaged = [{key: value for key, value in tree.items() if key != name}]
        damaged += [{**tree, name: other} for other in OTHERS if other != right]
        for variant in damaged:
            store = MemoryStorage()
            for number, raw in enumerate(LOG):
                store.append(REF, number, json.dumps(variant).encode() if number == seq else raw)
            engine = FluxEngine(store, workflows=[WORKFLOW], clock=VirtualClock())
            before = store.read(REF)
            try:
                engine.get(WORKFLOW, "1")
            except CorruptRecord as error:
                assert "default/w/1" in str(error)  # noqa: PT017 -- some fields may be missing
                refused += 1
            except Exception as error:
                message = f"{type(error).__name__} instead of CorruptRecord for {variant}"
                raise AssertionError(message) from error
            assert store.read(REF) == before
    assert refused > len(tree)


@pytest.mark.parametrize(
    "raw", ["text", b"", b"not json", b"\xff\xfe", b"[]", b"null", b"7", b"{}", b'{"v":1}', b"[" * 100_000]
)
@pytest.mark.parametrize("seq", [0, 3, len(LOG) - 1])
def test_what_is_no_record_is_refused_naming_its_key(raw: Any, seq: int) -> None:
    store = MemoryStorage()
    for number, record in enumerate(LOG):
        store.append(REF, number, raw if number == seq else record)
    with pytest.raises(CorruptRecord, match=f"record {seq} of default/w/1"):
        FluxEngine(store, workflows=[WORKFLOW]).get(WORKFLOW, "1")


def test_a_record_that_was_cut_off_is_refused_by_a_process_that_never_imported_json() -> None:
    """Before 3.13 the C scanner ends in SystemError there, whatever it wanted to say."""
    script = f"""
        import sys
        from flux_core import CorruptRecord, InstanceRef
        from flux_core.codec import decode_record

        assert "json" not in sys.modules
        raw = {LOG[1]!r}
        for end in range(len(raw)):
            try:
                decode_record(raw[:end], InstanceRef("default", "w", "1"), 1)
            except CorruptRecord as error:
                assert "record 1" in str(error)
        """
    root = Path(__file__).parents[2]
    command = [sys.executable, "-S", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert (done.returncode, done.stderr) == (0, "")
