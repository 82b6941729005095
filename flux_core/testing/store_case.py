"""What the cases of the store contract share: a store for each test, sample values, and checks that tell a story.

It must not know any store, nor need pytest: the checks raise `AssertionError` themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from flux_core.ports import Header, InstanceRef, Mail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flux_core.ports import Listed, WorkflowStorage

T = TypeVar("T")

NOW = 1_700_000_000_000
"""Milliseconds since the epoch, of the size that real ones have."""

NAME_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-"
"""All that a name may consist of (PROTOCOL, Security)."""

ALL_BYTES = bytes(range(256))


def ref(id: str = "1", workflow: str = "order", tenant: str = "acme") -> InstanceRef:
    """A sample instance."""
    return InstanceRef(tenant, workflow, id)


def header(
    seq: int = 0,
    *,
    status: str = "running",
    created_at: int = NOW,
    updated_at: int = NOW,
    epoch: int = 1,
    due: int | None = None,
) -> Header:
    """A sample header of record `seq`."""
    return Header(status, created_at, updated_at, epoch, seq, due)


def letter(name: str = "approval", id: str = "m1", at: int = NOW, body: bytes = b'"yes"') -> Mail:
    """A sample mail."""
    return Mail(name, id, at, body)


def must(condition: bool, story: str) -> None:  # noqa: FBT001 -- an assertion
    """Fail with `story`, which says what the store did wrong."""
    if not condition:
        raise AssertionError(story)


def same(got: object, wanted: object, story: str) -> None:
    """Fail unless `got == wanted`; `story` says what is being looked at."""
    if got != wanted:
        raise AssertionError(f"{story}: the store gave {_short(got)}, it must be {_short(wanted)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} ... {text[-80:]} ({len(text)} characters)"  # noqa: PLR2004


def together(count: int, work: Callable[[int], T]) -> list[T]:
    """`work(0)` ... `work(count - 1)`, each in a thread of its own, started at the same moment.

    The first error of any of them is raised here.
    """
    import threading

    ready = threading.Barrier(count)
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            ready.wait()
            results[number] = work(number)
        except BaseException as error:  # noqa: BLE001 -- raised again below, in the thread of the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(count)]


class StoreCase:
    """The base of all cases. A store author overrides `make_store`, and what else differs."""

    writers = 64
    """Threads that fight for the same slots."""
    slots = 200
    """Slots they fight for."""
    long_log = 2_000
    """Records of the longest log."""
    churn = 100
    """Records that one thread appends while another reads; in the same measure, what else happens at the same time."""
    crowd = 120
    """Instances where a case needs many."""
    index_lag = 0.0
    """Seconds that `due` and `list` may lag behind (a secondary index that is consistent only in the end)."""

    store: WorkflowStorage

    def make_store(self) -> WorkflowStorage:
        """A fresh, empty store; called once for each test."""
        raise NotImplementedError(f"{type(self).__name__} must override make_store() and return a fresh, empty store.")

    def reopen(self, store: WorkflowStorage) -> WorkflowStorage:
        """Open anew what `store` has open, as another process would. A durable store overrides this."""
        return store

    def setup_method(self) -> None:
        """Make the store that the case works on."""
        self.store = self.make_store()
        self.store.ensure()

    def teardown_method(self) -> None:
        """Close it."""
        self.store.close()

    # --- shorthands for the cases ------------------------------------------------------------------------

    def start(self, at: InstanceRef, head: Header | None = None, record: bytes = b'{"t":"start"}') -> InstanceRef:
        """Create an instance with record 0 and a header."""
        same(self.store.append(at, 0, record, head or header()), None, f"append of record 0 to the new instance {at}")
        return at

    def fill(self, at: InstanceRef, records: int) -> list[bytes]:
        """Append `records` different records without a header."""
        written = [b"record %d" % seq for seq in range(records)]
        for seq, record in enumerate(written):
            same(self.store.append(at, seq, record), None, f"append of record {seq} to {at}")
        return written

    def due_now(self, until: int = 2 * NOW, limit: int = 10_000) -> list[tuple[InstanceRef, int]]:
        """The due index as plain pairs."""
        return [(entry.ref, entry.due) for entry in self.store.due(until, limit)]

    def due_is(self, wanted: list[tuple[InstanceRef, int]], story: str) -> None:
        """Fail unless the due index holds exactly `wanted`, in that order, after the index lag at the latest."""
        self._settled(self.due_now, wanted, story)

    def listed_is(self, wanted: Callable[[list[Listed]], object], value: object, story: str) -> None:
        """Fail unless `wanted` of everything listed for tenant `acme` is `value`, after the index lag at the latest."""
        self._settled(lambda: wanted(self.listing()), value, story)

    def _settled(self, look: Callable[[], object], wanted: object, story: str) -> None:
        import time

        give_up_at = time.monotonic() + self.index_lag
        while (got := look()) != wanted and time.monotonic() < give_up_at:
            time.sleep(0.02)  # noqa: TID251 -- the lag of a real index passes in real time
        same(got, wanted, story)

    def listing(
        self,
        tenant: str = "acme",
        workflow: str | None = None,
        statuses: list[str] | None = None,
        limit: int = 100,
    ) -> list[Listed]:
        """All entries of a listing, page after page."""
        return [entry for page in self.pages(tenant, workflow, statuses, limit) for entry in page]

    def pages(
        self,
        tenant: str = "acme",
        workflow: str | None = None,
        statuses: list[str] | None = None,
        limit: int = 100,
    ) -> Iterator[list[Listed]]:
        """The pages of a listing; fails if they do not end, or one is longer than `limit`."""
        cursor: str | None = None
        for _ in range(10_000):
            page = self.store.list(tenant, workflow, statuses, limit, cursor)
            must(len(page.items) <= limit, f"list with limit {limit} gave a page of {len(page.items)} entries")
            yield list(page.items)
            must(page.cursor is None or page.cursor != cursor, f"list gave the cursor {cursor!r} back: it never ends")
            cursor = page.cursor
            if cursor is None:
                return
        raise AssertionError("list gave 10,000 pages and still a cursor: it never ends")
