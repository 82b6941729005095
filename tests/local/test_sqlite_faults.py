"""What SQLite can do to us, and what the kit says then: a clear error, no half transaction, and the next call works."""

from __future__ import annotations

import resource
import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest

from flux_core.cursor import ListKey, encode_cursor
from flux_core.errors import CallerError, CorruptRecord, DefinitionError, PayloadTooLarge, StorageUnavailable
from flux_core.ports import Header, InstanceRef, Mail
from flux_local import SQLiteStorage
from flux_local.sqlite_schema import VERSION

if TYPE_CHECKING:
    from pathlib import Path

ORDER = InstanceRef("acme", "order", "1")


def head(seq: int, due: int | None = None) -> Header:
    return Header("running", 1, 1, 1, seq, due)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flux.db"


# --- arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [":memory:", "", "file:flux.db?mode=memory"])
def test_a_store_without_a_file_is_refused_pointing_to_memory_storage(name: str) -> None:
    with pytest.raises(DefinitionError, match="MemoryStorage"):
        SQLiteStorage(name)


def test_an_unknown_synchronous_level_is_refused(path: Path) -> None:
    with pytest.raises(DefinitionError, match="OFF, NORMAL, FULL, EXTRA, not 'SOMETIMES'"):
        SQLiteStorage(path, synchronous="SOMETIMES")  # type: ignore[arg-type]


def test_a_busy_timeout_must_be_positive(path: Path) -> None:
    with pytest.raises(DefinitionError, match="busy_timeout"):
        SQLiteStorage(path, busy_timeout=0)


def test_making_a_store_opens_nothing_and_the_first_call_makes_folder_and_file(tmp_path: Path) -> None:
    store = SQLiteStorage(tmp_path / "a" / "b" / "flux.db")
    assert list(tmp_path.iterdir()) == []
    store.append(ORDER, 0, b"start")
    assert (tmp_path / "a" / "b" / "flux.db").exists()


def test_the_path_does_not_depend_on_a_later_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteStorage("flux.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.append(ORDER, 0, b"start")
    assert (tmp_path / "flux.db").exists()


@pytest.mark.parametrize("level", ["OFF", "NORMAL", "FULL", "EXTRA"])
def test_the_synchronous_level_and_the_write_ahead_log_are_in_force(path: Path, level: str) -> None:
    store = SQLiteStorage(path, synchronous=level)  # type: ignore[arg-type]
    store.ensure()
    connection = store._sessions.current().connection
    assert connection.execute("PRAGMA synchronous").fetchall() == [(["OFF", "NORMAL", "FULL", "EXTRA"].index(level),)]
    assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    assert connection.execute("PRAGMA wal_autocheckpoint").fetchall() == [(1000,)]


# --- files that are not ours ---------------------------------------------------------------------------------


def test_a_file_that_is_not_a_database_is_refused_and_left_alone(path: Path) -> None:
    text = b"These are my notes, and no database.\n" * 100
    path.write_bytes(text)
    with pytest.raises(CorruptRecord, match=r"flux\.db is not a SQLite database"):
        SQLiteStorage(path).read(ORDER)
    assert path.read_bytes() == text


def test_a_later_schema_version_is_refused_naming_both_versions_and_the_file(path: Path) -> None:
    store = SQLiteStorage(path)
    store.append(ORDER, 0, b"start")
    store._sessions.current().connection.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(CorruptRecord, match=rf"flux\.db has schema version 99; this Flux knows version {VERSION}\."):
        SQLiteStorage(path).append(ORDER, 1, b"step")


def test_the_database_of_another_application_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE customers (name TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(CorruptRecord, match=r"flux\.db is a SQLite database of another application \(1 tables"):
        SQLiteStorage(path).ensure()
    assert path.read_bytes() == before


def test_a_damaged_database_is_told_as_damaged(path: Path) -> None:
    store = SQLiteStorage(path)
    for seq in range(200):
        store.append(ORDER, seq, b"x" * 1000)
    store.close()
    whole = bytearray(path.read_bytes())
    whole[4096 * 2 :] = b"\xee" * (len(whole) - 4096 * 2)
    path.write_bytes(whole)
    with pytest.raises(CorruptRecord, match=r"flux\.db is damaged.*backup"):
        SQLiteStorage(path).read(ORDER)


def test_a_path_that_is_a_folder_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="cannot be opened"):
        SQLiteStorage(tmp_path).read(ORDER)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageUnavailable, match=r"file/flux\.db cannot be made"):
        SQLiteStorage(tmp_path / "file" / "flux.db").read(ORDER)


def test_a_record_missing_in_the_middle_is_told_when_read(path: Path) -> None:
    store = SQLiteStorage(path)
    for seq in range(5):
        store.append(ORDER, seq, b"x")
    store._sessions.current().connection.execute("DELETE FROM log WHERE seq = 2")
    with pytest.raises(CorruptRecord, match=r"order/1 \(tenant acme\).*4 records from 0 on, but the newest is 4"):
        store.read(ORDER)
    assert store.read(ORDER, 3) == [b"x", b"x"]


# --- locked ----------------------------------------------------------------------------------------------------


def test_a_lock_that_outlasts_the_busy_timeout_is_told_and_then_it_works_again(path: Path) -> None:
    store = SQLiteStorage(path, busy_timeout=0.1)
    store.append(ORDER, 0, b"start", head(0))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for write in (
        lambda: store.append(ORDER, 1, b"step"),
        lambda: store.append(ORDER, 1, b"step", head(1)),
        lambda: store.put_mail(ORDER, Mail("go", "1", 1, b"")),
        lambda: store.nudge(ORDER, 1, 5),
        lambda: store.purge(ORDER, 0),
    ):
        with pytest.raises(StorageUnavailable, match=r"flux\.db did not answer: another connection kept it locked"):
            write()
    assert store.read(ORDER) == [b"start"], "readers do not wait for a writer"
    other.execute("ROLLBACK")
    other.close()
    assert store.append(ORDER, 1, b"step", head(1)) is None
    assert store.read(ORDER) == [b"start", b"step"]
    assert store.mail(ORDER) == []


def test_threads_that_wait_for_each_other_too_long_are_told(path: Path) -> None:
    store = SQLiteStorage(path, busy_timeout=0.05)
    store.append(ORDER, 0, b"start")
    store._sessions.acquire_writing()
    with pytest.raises(StorageUnavailable, match="other threads of this process kept it busy"):
        store.append(ORDER, 1, b"step")
    store._sessions.writing.release()
    assert store.append(ORDER, 1, b"step") is None


# --- full ------------------------------------------------------------------------------------------------------


def fill(store: SQLiteStorage, acknowledged: list[int]) -> None:
    """Append until the store refuses, every second record with a header."""
    for seq in range(len(acknowledged), 1_000):
        store.append(ORDER, seq, b"x" * 1000, head(seq) if seq % 2 else None)
        acknowledged.append(seq)


def test_a_full_database_is_told_and_keeps_every_acknowledged_record(path: Path) -> None:
    store = SQLiteStorage(path)
    store.ensure()
    store._sessions.current().connection.execute("PRAGMA max_page_count = 40")
    acknowledged: list[int] = []
    with pytest.raises(StorageUnavailable, match=r"flux\.db did not answer: .* is full\. Make room"):
        fill(store, acknowledged)
    last = len(acknowledged)
    assert last > 10
    assert len(store.read(ORDER)) == last
    with pytest.raises(StorageUnavailable):
        store.append(ORDER, last, b"x" * 3000, head(last))
    assert len(store.read(ORDER)) == last, "a failed commit leaves nothing behind"
    store._sessions.current().connection.execute("PRAGMA max_page_count = 4000")
    assert store.append(ORDER, last, b"room again", head(last)) is None
    store.close()
    again = SQLiteStorage(path)
    assert len(again.read(ORDER)) == last + 1
    assert again.header(ORDER) == head(last)


def test_a_disk_that_refuses_to_write_is_told_and_keeps_every_acknowledged_record(path: Path) -> None:
    store = SQLiteStorage(path)
    store.ensure()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    acknowledged: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))  # each file, as a full disk would
        with pytest.raises(StorageUnavailable, match=r"flux\.db did not answer"):
            fill(store, acknowledged)
        last = len(acknowledged)
        assert len(store.read(ORDER)) == last
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert last > 10
    assert store.append(ORDER, last, b"room again", head(last)) is None
    store.close()
    again = SQLiteStorage(path)
    assert len(again.read(ORDER)) == last + 1
    assert again.header(ORDER) == head(last)


def test_a_header_that_cannot_be_stored_leaves_no_record_either(path: Path) -> None:
    store = SQLiteStorage(path)
    store.append(ORDER, 0, b"start", head(0))
    with pytest.raises(OverflowError):
        store.append(ORDER, 1, b"step", head(1, due=2**70))
    assert store.read(ORDER) == [b"start"]
    assert store.append(ORDER, 1, b"step", head(1, due=7)) is None


# --- connections -------------------------------------------------------------------------------------------------


def test_every_thread_has_its_own_connection_and_takes_it_along(path: Path) -> None:
    store = SQLiteStorage(path)
    store.ensure()
    mine = store._sessions.current()
    others: list[bool] = []
    for _ in range(20):
        thread = threading.Thread(target=lambda: others.append(store._sessions.current() is not mine))
        thread.start()
        thread.join()
    assert others == [True] * 20
    assert len(store._sessions._open) == 1, "only this thread's connection is still open"


def test_close_ends_the_connections_of_all_threads(path: Path) -> None:
    store = SQLiteStorage(path)
    store.append(ORDER, 0, b"start")
    opened, go_on = threading.Event(), threading.Event()
    told: list[BaseException] = []

    def work() -> None:
        store.tail(ORDER)
        opened.set()
        go_on.wait()
        try:
            store.append(ORDER, 1, b"step")
        except StorageUnavailable as error:
            told.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    opened.wait()
    store.close()
    go_on.set()
    thread.join()
    assert [str(error).endswith("was closed. Make a new one.") for error in told] == [True]
    assert not path.with_name("flux.db-wal").exists(), "the last connection folded the write-ahead log into the file"
    with pytest.raises(StorageUnavailable, match="was closed"):
        store.read(ORDER)


def test_the_write_ahead_log_does_not_grow_without_end(path: Path) -> None:
    store = SQLiteStorage(path, synchronous="OFF")
    for seq in range(5_000):
        store.append(ORDER, seq, b"x" * 1500)
        if seq % 10 == 0:
            store.tail(ORDER)
    assert path.stat().st_size > 5_000_000
    assert path.with_name("flux.db-wal").stat().st_size < 8_000_000


def test_a_value_above_the_limit_says_where_to_keep_it(path: Path) -> None:
    store = SQLiteStorage(path)
    store.append(ORDER, 0, b"start")
    store._sessions.current().connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1000)
    for call in (
        lambda: store.append(ORDER, 1, b"x" * 2000),
        lambda: store.append(ORDER, 1, b"x" * 2000, head(1)),
        lambda: store.put_mail(ORDER, Mail("m", "1", 1, b"x" * 2000)),
        lambda: store.put_snapshot(ORDER, 0, b"x" * 2000),
    ):
        with pytest.raises(PayloadTooLarge, match=r"flux\.db does not take a value of that size .* Pass payloads= to"):
            call()
    assert store.append(ORDER, 1, b"x") is None


def test_a_value_that_the_driver_itself_refuses_says_so_too(path: Path) -> None:
    store = SQLiteStorage(path)
    with pytest.raises(PayloadTooLarge, match="Pass payloads= to FluxEngine"):
        store.append(ORDER, 0, bytes(2**31))
    with pytest.raises(PayloadTooLarge, match="Pass payloads= to FluxEngine"):
        store.append(ORDER, 0, bytes(2**31), head(0))


def test_a_page_needs_room_for_one_entry(path: Path) -> None:
    with pytest.raises(CallerError, match="at least 1, not 0"):
        SQLiteStorage(path).list("acme", limit=0)


def test_the_indexes_are_used(path: Path) -> None:
    store = SQLiteStorage(path)
    store.ensure()
    connection = store._sessions.current().connection
    seen: list[str] = []
    connection.set_trace_callback(seen.append)
    store.due(5, 10)
    store.list("acme")
    store.list("acme", "order", ["failed"], 10, encode_cursor("acme", ListKey(5, "1", "order")))
    connection.set_trace_callback(None)
    plans = [" ".join(str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")) for query in seen]
    assert ["header_due" in plans[0], "header_newest" in plans[1], "header_newest" in plans[2]] == [True] * 3
    assert [plan for plan in plans if "TEMP B-TREE" in plan or plan.startswith("SCAN header (")] == []
