"""`execute_batch`: many inputs, each on its own, told in the order in which they were given."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import CallerError, Context, InputInvalid, NonRetryable, create_workflow, wait

if TYPE_CHECKING:
    from tests.core.conftest import Lab


def double(ctx: Context) -> int:
    if ctx.input == "bad":
        message = "bad input"
        raise NonRetryable(message)
    return int(ctx.input * 2)


class TestABatch:
    @pytest.mark.parametrize("concurrency", [1, 3, 50])
    def test_tells_results_in_the_order_of_its_inputs(self, concurrency: int, lab: Lab) -> None:
        w = create_workflow("order").step("a", double)
        batch = lab.engine().execute_batch(w, range(20), concurrency=concurrency)
        assert (batch.total, batch.succeeded, batch.failed) == (20, 20, 0)
        assert [item.index for item in batch.results] == list(range(20))
        assert [item.result.history[0].output for item in batch.results if item.result] == [n * 2 for n in range(20)]
        assert all(item.status == "completed" and item.success and item.error is None for item in batch.results)

    def test_that_is_interrupted_begins_nothing_more(self, lab: Lab) -> None:
        def progress(done: int, total: int) -> None:
            raise KeyboardInterrupt

        def slow(ctx: Context) -> None:
            lab.calls.append("a")
            time.sleep(0.02)

        w = create_workflow("order").step("a", slow)
        with pytest.raises(KeyboardInterrupt):
            lab.engine().execute_batch(w, range(500), concurrency=2, on_progress=progress)
        assert len(lab.calls) < 250

    def test_of_nothing_is_empty(self, lab: Lab) -> None:
        batch = lab.engine().execute_batch(create_workflow("order").step("a", double), [])
        assert (batch.total, batch.succeeded, batch.failed, batch.results) == (0, 0, 0, [])

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_goes_on_when_one_fails_and_says_which(self, concurrency: int, lab: Lab) -> None:
        w = create_workflow("order").step("a", double)
        batch = lab.engine().execute_batch(w, [1, "bad", 3], concurrency=concurrency)
        assert (batch.total, batch.succeeded, batch.failed) == (3, 2, 1)
        assert [(item.status, item.success) for item in batch.results] == [
            ("completed", True), ("failed", False), ("completed", True),
        ]  # fmt: skip
        assert str(batch.results[1].error) == "bad input"

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_goes_on_when_one_raises_and_keeps_the_exception(self, concurrency: int, lab: Lab) -> None:
        def positive(raw: Any) -> int:
            if raw < 0:
                message = "negative"
                raise ValueError(message)
            return int(raw)

        w = create_workflow("order").input(positive).step("a", double)
        batch = lab.engine().execute_batch(w, [1, -1, 3], concurrency=concurrency)
        assert (batch.succeeded, batch.failed) == (2, 1)
        item = batch.results[1]
        assert (item.id, item.status, item.result, item.success) == (None, None, None, False)
        assert isinstance(item.error, InputInvalid)
        assert "negative" in str(item.error)

    def test_counts_what_is_suspended_as_no_failure(self, lab: Lab) -> None:
        batch = lab.engine().execute_batch(create_workflow("order").step("a", lambda ctx: wait("go")), [1])
        assert (batch.results[0].status, batch.succeeded, batch.failed) == ("suspended", 1, 0)

    @pytest.mark.parametrize("ids", [["o-1", "o-2"], lambda raw: f"o-{raw}"], ids=["a list", "a function"])
    def test_names_its_instances(self, ids: Any, lab: Lab) -> None:
        w = create_workflow("order").step("a", double)
        first = lab.engine().execute_batch(w, [1, 2], ids=ids)
        again = lab.engine().execute_batch(w, [1, 2], ids=ids)
        assert [item.id for item in first.results] == ["o-1", "o-2"]
        assert [item.result.created for item in again.results if item.result] == [False, False]

    def test_with_too_few_ids_is_refused_before_anything_runs(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a"))
        with pytest.raises(CallerError, match=r"execute_batch\(\) got 2 inputs and 1 ids; give one id an input"):
            lab.engine().execute_batch(w, [1, 2], ids=["o-1"])
        assert lab.calls == []

    @pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, "8"])
    def test_with_an_impossible_concurrency_is_refused(self, concurrency: Any, lab: Lab) -> None:
        with pytest.raises(CallerError, match="concurrency must be a whole number from 1 on; got"):
            lab.engine().execute_batch(create_workflow("order").step("a", double), [1, 2], concurrency=concurrency)

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_tells_its_progress(self, concurrency: int, lab: Lab) -> None:
        told: list[tuple[int, int]] = []
        w = create_workflow("order").step("a", double)
        lab.engine().execute_batch(
            w, [1, "bad", 3], concurrency=concurrency, on_progress=lambda done, total: told.append((done, total))
        )
        assert told == [(1, 3), (2, 3), (3, 3)]

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_does_not_let_a_failing_progress_bar_lose_its_results(self, concurrency: int, lab: Lab) -> None:
        def progress(done: int, total: int) -> None:
            message = "the terminal is gone"
            raise OSError(message)

        w = create_workflow("order").step("a", double)
        batch = lab.engine().execute_batch(w, [1, 2, 3], concurrency=concurrency, on_progress=progress)
        assert batch.succeeded == 3

    def test_runs_up_to_its_concurrency_at_a_time_and_no_more(self, lab: Lab) -> None:
        barrier = threading.Barrier(3, timeout=20)
        lock = threading.Lock()
        running, most = [0], [0]

        def meet(ctx: Context) -> None:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            barrier.wait()
            with lock:
                running[0] -= 1

        batch = lab.engine().execute_batch(create_workflow("order").step("a", meet), range(9), concurrency=3)
        assert (batch.succeeded, most[0]) == (9, 3)

    def test_with_a_concurrency_of_one_runs_in_order_on_the_callers_thread(self, lab: Lab) -> None:
        seen: list[tuple[int, int]] = []
        w = create_workflow("order").step("a", lambda ctx: seen.append((ctx.input, threading.get_ident())))
        lab.engine().execute_batch(w, range(5), concurrency=1)
        assert seen == [(n, threading.get_ident()) for n in range(5)]

    def test_of_an_unknown_workflow_is_an_error_of_the_whole(self, lab: Lab) -> None:
        with pytest.raises(CallerError):
            lab.engine().execute_batch("order", [1])
