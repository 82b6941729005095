"""Several real processes on one SQLite file, and forks."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from flux_core.ports import InstanceRef
from flux_local import SQLiteStorage
from tests.contract.processes import Opening, RacesOfProcesses, python

if TYPE_CHECKING:
    from pathlib import Path

# Python 3.12 and later warn of what some of these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

ORDER = InstanceRef("acme", "order", "1")


class TestProcessesOnSQLite(RacesOfProcesses):
    @pytest.fixture
    def store(self, tmp_path: Path) -> SQLiteStorage:
        return SQLiteStorage(tmp_path / "new folder" / "flux.db")  # all of them make the file at once

    @pytest.fixture
    def opening(self, store: SQLiteStorage) -> Opening:
        return Opening(
            f"from flux_local import SQLiteStorage\nstore = SQLiteStorage({store.path!r}, busy_timeout=120)\n"
        )


def test_a_child_after_a_fork_and_its_parent_both_go_on(tmp_path: Path) -> None:
    store = SQLiteStorage(tmp_path / "flux.db")
    for seq in range(10):
        store.append(ORDER, seq, b"before")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            mine = [store.append(ORDER, seq, b"child") is None for seq in range(10, 60)]
            code = 0 if len(store.read(ORDER)) >= 60 and mine else 1
        finally:
            os._exit(code)
    for seq in range(10, 60):
        store.append(ORDER, seq, b"parent")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    log = store.read(ORDER)
    assert log[:10] == [b"before"] * 10
    assert len(log) == 60
    assert set(log[10:]) <= {b"child", b"parent"}
    check = store._sessions.current().connection.execute("PRAGMA integrity_check").fetchall()
    assert check == [("ok",)]


def test_no_connection_is_open_across_a_fork(tmp_path: Path) -> None:
    store = SQLiteStorage(tmp_path / "flux.db")
    store.append(ORDER, 0, b"before")
    before = store._sessions.own.session
    child = os.fork()
    if child == 0:
        os._exit(0 if before.closed and not hasattr(store._sessions.own, "session") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert before.closed
    assert store.append(ORDER, 1, b"after") is None


def fork_and_append(store: SQLiteStorage, number: int) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if store.append(ORDER._replace(id=f"child-{number}"), 0, b"x") is None else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_forks_while_other_threads_write_lose_nothing(tmp_path: Path) -> None:
    store = SQLiteStorage(tmp_path / "flux.db")

    def write(name: str) -> bool:
        return all(
            store.append(ORDER._replace(id=name), seq, b"%d" % seq) is None
            and store.tail(ORDER._replace(id=name)) == (seq, b"%d" % seq)
            for seq in range(150)
        )

    with ThreadPoolExecutor(3) as threads:
        writes = [threads.submit(write, name) for name in ("a", "b", "c")]
        codes = [fork_and_append(store, number) for number in range(8)]
    assert [write.result() for write in writes] == [True] * 3
    assert codes == [0] * 8
    for name in ("a", "b", "c"):
        assert store.read(ORDER._replace(id=name)) == [b"%d" % seq for seq in range(150)]
    assert all(store.read(ORDER._replace(id=f"child-{number}")) == [b"x"] for number in range(8))


def test_a_second_process_reads_what_the_first_has_just_written(tmp_path: Path) -> None:
    path = tmp_path / "flux.db"
    store = SQLiteStorage(path)
    reader = python(
        "import json, sys\n"
        "from flux_core.ports import InstanceRef\n"
        "from flux_local import SQLiteStorage\n"
        "store = SQLiteStorage(*json.loads(sys.argv[1]))\n"
        "for line in sys.stdin:\n"
        "    print(store.tail(InstanceRef('acme', 'order', '1'))[0], flush=True)\n",
        str(path),
    )
    assert reader.stdin is not None
    assert reader.stdout is not None
    for seq in range(20):
        store.append(ORDER, seq, b"x")
        reader.stdin.write("?\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == f"{seq}\n"
    reader.communicate(timeout=60)
