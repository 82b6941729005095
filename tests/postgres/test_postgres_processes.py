"""Several real processes on one database, and forks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from flux_core import Header, InstanceRef
from tests.contract.processes import Opening, RacesOfProcesses

if TYPE_CHECKING:
    import psycopg

    from flux_local import PostgresStorage
    from tests.services.postgres import Postgres

# Python 3.12 and later warn of what some of these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

ORDER = InstanceRef("acme", "order", "1")


class TestProcessesOnPostgres(RacesOfProcesses):
    rivals = 64

    @pytest.fixture
    def opening(self, postgres: Postgres, schema: str) -> Opening:
        return Opening(
            "from flux_local import PostgresStorage\n"
            f"store = PostgresStorage({postgres.url!r}, schema={schema!r}, connections=16, timeout=60)\n"
        )


def test_a_purge_and_an_append_at_the_same_time_leave_all_or_nothing(
    postgres: Postgres, schema: str, store: PostgresStorage, admin: psycopg.Connection
) -> None:
    """The append has its slot already and waits to commit; the purge must see that it is not told the newest record."""
    from threading import Thread

    import psycopg

    store.append(ORDER, 0, b"start", Header("completed", 1, 1, 1, 0, None))
    told: list[bool] = []
    with psycopg.connect(postgres.url) as other:
        other.execute(f"INSERT INTO {schema}.log VALUES ('acme/order/1', 1, 'late')".encode())
        purge = Thread(target=lambda: told.append(store.purge(ORDER, 0)))
        purge.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
        while admin.execute(waiting, (f"%{schema}%",)).fetchall() == [(0,)]:
            pass
        other.commit()
        purge.join(60)
    assert told == [False]
    assert store.read(ORDER) == [b"start", b"late"]
    assert store.purge(ORDER, 1)


def test_a_child_after_a_fork_and_its_parent_both_go_on(store: PostgresStorage) -> None:
    for seq in range(10):
        store.append(ORDER, seq, b"before")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for seq in range(10, 60):
                store.append(ORDER, seq, b"child")
            code = 0 if len(store.read(ORDER)) >= 60 else 1
        finally:
            os._exit(code)
    for seq in range(10, 60):
        store.append(ORDER, seq, b"parent")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    log = store.read(ORDER)
    assert log[:10] == [b"before"] * 10
    assert len(log) == 60
    assert set(log[10:]) <= {b"child", b"parent"}


def test_a_child_does_not_close_the_connection_of_its_parent(store: PostgresStorage, admin: psycopg.Connection) -> None:
    store.append(ORDER, 0, b"before")
    mine = store._read("SELECT pg_backend_pid()")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if store._read("SELECT pg_backend_pid()") != mine else 1
            store.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store._read("SELECT pg_backend_pid()") == mine


def test_large_logs_come_back_whole(store: PostgresStorage) -> None:
    records = [bytes([seq]) * 300_000 for seq in range(40)]
    for seq, record in enumerate(records):
        store.append(ORDER, seq, record)
    assert store.read(ORDER) == records
    assert store.read(ORDER, 35) == records[35:]
