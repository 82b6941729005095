"""What is written: envelopes, nonces, epochs and sizes of real logs, and that bytes and records say the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import create_workflow
from flux_core import records as r
from flux_core.codec import decode_record, encode_record, nonce_of
from flux_core.records import Record
from tests.core.stories import STORIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.core.conftest import Lab

OWNERS = {
    r.RENEW,
    r.STEP,
    r.SKIPPED,
    r.DECIDE,
    r.JOIN,
    r.CHILD,
    r.INTENT,
    r.COMP,
    r.RETRY_WAIT,
    r.RECV,
    r.TIMEOUT,
    r.SUSP,
    r.YIELD,
    r.END,
    r.STUCK,
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
class TestALog:
    def test_reads_back_as_it_was_written(self, story: Callable[[Lab], None], lab: Lab) -> None:
        story(lab)
        ref = lab.ref("o-1")
        for seq, raw in enumerate(lab.storage.read(ref)):
            record = decode_record(raw, ref, seq)
            assert json.loads(encode_record(record)) == json.loads(raw)
            assert nonce_of(raw, ref, seq) == (record.by, record.counter)

    def test_begins_with_start_and_carries_schema_type_epoch_nonce_and_time(
        self, story: Callable[[Lab], None], lab: Lab
    ) -> None:
        story(lab)
        trees = [json.loads(raw) for raw in lab.storage.read(lab.ref("o-1"))]
        assert trees[0]["t"] == "start"
        assert all(tree["t"] != "start" for tree in trees[1:])
        assert all(
            (tree["v"], type(tree["ep"]), type(tree["at"]), len(tree["n"])) == (1, int, int, 2) for tree in trees
        )
        assert [tree["at"] for tree in trees] == sorted(tree["at"] for tree in trees)

    def test_has_no_nonce_twice(self, story: Callable[[Lab], None], lab: Lab) -> None:
        story(lab)
        nonces = [(record.by, record.counter) for record in lab.records("o-1")]
        assert len(nonces) == len(set(nonces))
        assert all(len(by) == 32 for by, _ in nonces)

    def test_has_epochs_that_rise_with_each_claim_and_nowhere_else(
        self, story: Callable[[Lab], None], lab: Lab
    ) -> None:
        story(lab)
        epoch = 0
        for record in lab.records("o-1"):
            if record.type in {r.START, r.CLAIM}:
                epoch += 1
            assert record.epoch == epoch, record

    def test_has_owners_records_by_one_invocation_an_epoch(self, story: Callable[[Lab], None], lab: Lab) -> None:
        story(lab)
        writers: dict[int, set[str]] = {}
        for record in lab.records("o-1"):
            if record.type in OWNERS | {r.START, r.CLAIM}:
                writers.setdefault(record.epoch, set()).add(record.by)
        assert all(len(names) == 1 for names in writers.values())


class TestTheStories:
    def test_write_every_type_of_record_that_this_version_has_but_renew(self) -> None:
        from tests.core.conftest import Lab

        seen: set[str] = set()
        for story in STORIES.values():
            lab = Lab()
            story(lab)
            seen |= set(lab.types("o-1"))
        types = OWNERS | {r.START, r.CLAIM, r.BLOCKED, r.ADOPT, *r.CONTROL}
        assert seen == types - {r.RENEW}


class TestAStepsRecord:
    def test_holds_the_changed_keys_only(self, lab: Lab) -> None:
        def change(ctx: Any) -> None:
            ctx.data["box"]["n"] = 2
            del ctx.data["gone"]

        w = create_workflow("order").step("a", lambda ctx: ctx.data.update(box={"n": 1}, gone=1, big="x" * 10_000))
        w.step("b", change).step("c", lambda ctx: dict(ctx.data) and None)
        lab.engine().execute(w, None, "o-1")
        _, a, b, c, _ = lab.records("o-1")
        assert set(a.body["set"]) == {"box", "gone", "big"}
        assert (b.body["set"], b.body["del"]) == ({"box": {"n": 2}}, ["gone"])
        assert "set" not in c.body
        assert "del" not in c.body
        assert len(lab.storage.read(lab.ref("o-1"))[2]) < 250

    def test_does_not_grow_with_the_number_of_steps(self, lab: Lab) -> None:
        w = create_workflow("order")
        for index in range(60):
            w.step(f"s{index:03}", lambda ctx: ctx.data.update(n=ctx.current_step + 1000))
        lab.engine().execute(w, None, "o-1")
        sizes = [len(raw) for raw in lab.storage.read(lab.ref("o-1"))[1:-1]]
        assert max(sizes) - min(sizes) <= 2

    def test_without_output_or_data_is_small(self, lab: Lab) -> None:
        lab.engine().execute(create_workflow("order").step("a", lab.note("a")), None, "o-1")
        assert len(lab.storage.read(lab.ref("o-1"))[1]) < 130

    def test_keeps_text_as_utf_8_and_lone_surrogates_too(self, lab: Lab) -> None:
        lab.engine().execute(create_workflow("order").step("a", lab.note("a", "für \ud800")), None, "o-1")
        assert "für".encode() in lab.storage.read(lab.ref("o-1"))[1]
        assert lab.records("o-1")[1].body["o"] == "für \ud800"


class TestARecord:
    def test_shows_itself(self) -> None:
        assert repr(Record("step", 2, 5, {"p": "a"})) == "<step ep=2 at=5 {'p': 'a'}>"

    def test_is_the_same_bytes_from_its_body_and_from_its_text(self, lab: Lab) -> None:
        def step(ctx: Any) -> Any:
            ctx.data["x"] = {"y": (1, "ü")}
            return {"a": [1.5, None, True]}

        lab.engine().execute(create_workflow("order").step("a", step), None, "o-1")
        raw = lab.storage.read(lab.ref("o-1"))[1]
        assert encode_record(lab.records("o-1")[1]) == raw
