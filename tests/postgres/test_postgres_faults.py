"""What PostgreSQL and the way to it can do to us: a clear error, no half commit, and the next call works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from flux_core import (
    CorruptRecord,
    DefinitionError,
    FluxEngine,
    Header,
    InstanceRef,
    Mail,
    PayloadTooLarge,
    StorageUnavailable,
    create_workflow,
)
from flux_core.cursor import ListKey, encode_cursor
from flux_core.testing import check_invariants
from flux_local import PostgresStorage
from flux_local.postgres_faults import translate
from flux_local.postgres_schema import VERSION, sql
from tests.services.postgres import running, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.postgres.conftest import Wire
    from tests.services.postgres import Postgres

    Opened = Callable[..., PostgresStorage]

ORDER = InstanceRef("acme", "order", "1")


def head(seq: int, due: int | None = None) -> Header:
    return Header("running", 1, 1, 1, seq, due)


class TestArguments:
    @pytest.mark.parametrize("conninfo", ["", "  "])
    def test_a_connection_string_is_needed(self, conninfo: str) -> None:
        with pytest.raises(DefinitionError, match=r'such as "postgresql://host/database"'):
            PostgresStorage(conninfo)

    def test_one_that_cannot_be_read_is_refused_by_the_first_call(self) -> None:
        with pytest.raises(DefinitionError, match="cannot read its connection string"):
            PostgresStorage("postgresql//nonsense").ensure()

    @pytest.mark.parametrize("timeout", [0, -1])
    def test_a_timeout_must_be_positive(self, timeout: float) -> None:
        with pytest.raises(DefinitionError, match="timeout must be a positive number of seconds"):
            PostgresStorage("dbname=x", timeout=timeout)

    @pytest.mark.parametrize("connections", [0, -1, 1.5])
    def test_there_must_be_a_connection(self, connections: Any) -> None:
        with pytest.raises(DefinitionError, match="connections must be a whole number from 1 on"):
            PostgresStorage("dbname=x", connections=connections)

    @pytest.mark.parametrize("schema", ["", "Flux", 'a"b', "a-b", "1a", "pg_flux", "ü", "x" * 64])
    def test_a_schema_is_a_plain_name(self, schema: str) -> None:
        with pytest.raises(DefinitionError, match="schema must be a plain name of PostgreSQL"):
            PostgresStorage("dbname=x", schema=schema)

    def test_making_a_store_loads_no_driver(self) -> None:
        program = (
            "import sys\nfrom flux_local import PostgresStorage\nPostgresStorage('dbname=x')\n"
            "assert 'psycopg' not in sys.modules"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=environment)

    def test_without_the_driver_the_message_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "flux_local.postgres_session", None)
        with pytest.raises(DefinitionError, match=r"pip install '\.\[postgres\]' in the checkout"):
            PostgresStorage("dbname=x").read(ORDER)


class TestTables:
    def test_without_tables_the_message_names_what_makes_them(self, opened: Opened, schema: str) -> None:
        store = opened()
        for call in (
            lambda: store.read(ORDER),
            lambda: store.append(ORDER, 0, b"start", head(0)),
            lambda: store.due(1, 1),
        ):
            with pytest.raises(
                StorageUnavailable,
                match=rf"no tables in the schema '{schema}'\. Call ensure\(\) of the PostgresStorage",
            ):
                call()
        store.ensure()
        assert store.read(ORDER) == []

    def test_tables_that_go_while_the_store_is_open_are_told(
        self, store: PostgresStorage, schema: str, admin: psycopg.Connection
    ) -> None:
        store.append(ORDER, 0, b"start")
        admin.execute(f"DROP SCHEMA {schema} CASCADE".encode())
        with pytest.raises(StorageUnavailable, match=r"its tables are gone\. Call ensure\(\)"):
            store.read(ORDER)
        store.ensure()
        assert store.read(ORDER) == []

    def test_the_script_makes_what_ensure_makes(self, opened: Opened, schema: str, admin: psycopg.Connection) -> None:
        admin.execute(sql(schema).encode())
        store = opened()
        assert store.append(ORDER, 0, b"start", head(0, 5)) is None
        store.ensure()
        assert store.read(ORDER) == [b"start"]

    def test_a_schema_that_is_there_already_is_used(
        self, opened: Opened, schema: str, admin: psycopg.Connection
    ) -> None:
        """As an administrator makes it for a role that may not make schemas."""
        admin.execute(f"CREATE SCHEMA {schema}".encode())
        opened().ensure()
        assert opened().read(ORDER) == []

    def test_a_later_form_is_refused_naming_both(
        self, store: PostgresStorage, opened: Opened, schema: str, admin: psycopg.Connection
    ) -> None:
        store.append(ORDER, 0, b"start")
        admin.execute(f"COMMENT ON TABLE {schema}.log IS 'flux-serverless, form 99'".encode())
        for call in (lambda store: store.append(ORDER, 1, b"step"), PostgresStorage.ensure):
            with pytest.raises(CorruptRecord, match=rf"tables of form 99 in .*; this Flux knows form {VERSION}\."):
                call(opened())

    def test_the_table_of_another_application_is_refused_and_left_alone(
        self, opened: Opened, schema: str, admin: psycopg.Connection
    ) -> None:
        admin.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.log (line text)".encode())
        for call in (PostgresStorage.ensure, lambda store: store.read(ORDER)):
            with pytest.raises(CorruptRecord, match=r"table `log` of another application\. Give Flux a schema"):
                call(opened())
        tables = admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)).fetchall()
        assert tables == [("log",)]

    def test_schemas_of_one_database_do_not_meet(self, opened: Opened, schema: str) -> None:
        first, second = opened(), opened(schema=f"{schema}_too")
        first.ensure()
        second.ensure()
        first.append(ORDER, 0, b"first", head(0, 5))
        assert second.read(ORDER) == []
        assert second.due(10, 10) == []

    def test_a_gap_in_a_log_is_damage(self, store: PostgresStorage, schema: str, admin: psycopg.Connection) -> None:
        for seq in range(4):
            store.append(ORDER, seq, b"x")
        admin.execute(f"DELETE FROM {schema}.log WHERE seq = 2".encode())
        with pytest.raises(CorruptRecord, match=r"order/1 \(tenant acme\) in postgres on 127\.0\.0\.1:\d+ has 3"):
            store.read(ORDER)


class TestIndexes:
    def test_they_are_used_and_nothing_is_sorted(
        self, store: PostgresStorage, opened: Opened, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = opened(f"{postgres.url}?options=-c%20enable_seqscan%3Doff%20-c%20enable_bitmapscan%3Doff")
        seen: list[tuple[str, tuple[str | int, ...]]] = []
        look = plain._read

        def read(query: str, *values: str | int) -> list[tuple[Any, ...]]:
            seen.append((query, values))
            return look(query, *values)

        monkeypatch.setattr(plain, "_read", read)
        plain.due(5, 10)
        plain.list("acme")
        plain.list("acme", "order", ["failed"], 10, encode_cursor("acme", ListKey(5, "1", "order")))
        plain.tail(ORDER)
        plans = ["".join(line for (line,) in look(f"EXPLAIN {query}", *values)) for query, values in seen]
        used = ["header_due", "header_newest", "header_newest", "log_pkey"]
        assert [name in plan for name, plan in zip(used, plans, strict=True)] == [True] * 4, plans
        assert [plan for plan in plans if "Sort" in plan] == []


class TestWhoMayNot:
    def test_nobody_listens(self, opened: Opened) -> None:
        with pytest.raises(StorageUnavailable, match=r"no connection, or it broke\. See that the server runs"):
            opened("postgresql://flux@127.0.0.1:1/postgres").read(ORDER)

    def test_a_wrong_password_is_told_and_not_shown(
        self, opened: Opened, postgres: Postgres, admin: psycopg.Connection
    ) -> None:
        admin.execute("DROP ROLE IF EXISTS guarded; CREATE ROLE guarded LOGIN PASSWORD 'the right one'")
        with pytest.raises(StorageUnavailable, match="its password or the database is refused") as told:
            opened(f"postgresql://guarded:hunter2@127.0.0.1:{postgres.port}/postgres").read(ORDER)
        assert "hunter2" not in str(told.value)

    def test_a_database_that_is_not_there(self, opened: Opened, postgres: Postgres) -> None:
        with pytest.raises(StorageUnavailable, match=r"nowhere on 127\.0\.0\.1.*the database is refused"):
            opened(f"postgresql://flux@127.0.0.1:{postgres.port}/nowhere").read(ORDER)

    def test_a_role_without_rights_is_told_which(
        self, store: PostgresStorage, opened: Opened, postgres: Postgres, schema: str, admin: psycopg.Connection
    ) -> None:
        role = f"role_{schema}"
        admin.execute(f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role}".encode())
        poor = opened(f"postgresql://{role}@127.0.0.1:{postgres.port}/postgres")
        with pytest.raises(StorageUnavailable, match=r"Grant it USAGE on the schema and SELECT, INSERT"):
            poor.append(ORDER, 0, b"start")
        with pytest.raises(StorageUnavailable, match=r"ensure\(\) also needs CREATE on the database"):
            opened(f"postgresql://{role}@127.0.0.1:{postgres.port}/postgres", schema=f"{schema}_new").ensure()

    def test_a_role_with_the_rights_of_the_message_can_do_all(
        self, store: PostgresStorage, opened: Opened, postgres: Postgres, schema: str, admin: psycopg.Connection
    ) -> None:
        role = f"role_{schema}"
        admin.execute(
            f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role};"
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}".encode()
        )
        rich = opened(f"postgresql://{role}@127.0.0.1:{postgres.port}/postgres")
        assert rich.append(ORDER, 0, b"start", head(0, 5)) is None
        assert rich.put_mail(ORDER, Mail("m", "1", 1, b"yes")) is None
        rich.put_snapshot(ORDER, 0, b"state")
        rich.ensure()
        assert rich.purge(ORDER, 0)

    def test_too_many_connections(
        self, store: PostgresStorage, opened: Opened, postgres: Postgres, schema: str, admin: psycopg.Connection
    ) -> None:
        role = f"role_{schema}"
        admin.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0".encode())
        with pytest.raises(StorageUnavailable, match="too many connections"):
            opened(f"postgresql://{role}@127.0.0.1:{postgres.port}/postgres").read(ORDER)

    def test_a_standby_takes_no_writes(
        self, store: PostgresStorage, opened: Opened, postgres: Postgres, schema: str
    ) -> None:
        standby = opened(f"{postgres.url}?options=-c%20default_transaction_read_only%3Don")
        assert standby.read(ORDER) == []
        with pytest.raises(StorageUnavailable, match=r"it takes no writes.* Connect to the primary"):
            standby.append(ORDER, 0, b"start")

    def test_what_is_damaged_is_for_a_person(self) -> None:
        damaged = translate(psycopg.errors.DataCorrupted("invalid page in block 7"), "orders on db")
        assert isinstance(damaged, CorruptRecord)
        assert "orders on db is damaged. Restore a backup" in str(damaged)

    @pytest.mark.parametrize(
        ("error", "advice"),
        [
            (psycopg.errors.DiskFull, "its disk is full. Make room"),
            (psycopg.errors.OutOfMemory, "it ran out of something"),
            (psycopg.errors.DeadlockDetected, "the transaction was undone by another one"),
            (psycopg.errors.CannotConnectNow, "it is being shut down or started"),
            (psycopg.errors.SyntaxError, "the call failed"),
        ],
    )
    def test_what_passes_is_unavailable(self, error: type[psycopg.Error], advice: str) -> None:
        told = translate(error("said the server"), "orders on db")
        assert isinstance(told, StorageUnavailable)
        assert str(told) == f"The workflow store orders on db did not answer: {advice}" + str(told).partition(advice)[2]

    def test_a_value_of_a_gigabyte_says_where_to_keep_it(self, store: PostgresStorage) -> None:
        large = bytes(2**30)
        for call in (
            lambda: store.append(ORDER, 0, large),
            lambda: store.put_mail(ORDER, Mail("m", "1", 1, large)),
            lambda: store.put_snapshot(ORDER, 0, large),
        ):
            with pytest.raises(PayloadTooLarge, match=r"1073741824 bytes; .* Pass payloads= to FluxEngine"):
                call()


class TestBrokenConnections:
    def test_one_that_the_server_closed_is_replaced_without_an_error(
        self, store: PostgresStorage, admin: psycopg.Connection
    ) -> None:
        store.append(ORDER, 0, b"start")
        terminate(admin)
        assert store.read(ORDER) == [b"start"]
        assert store.append(ORDER, 1, b"step", head(1, 9)) is None

    def test_one_that_breaks_in_a_call_is_unavailable_and_the_next_call_works(
        self, store: PostgresStorage, opened: Opened, wire: Wire, schema: str
    ) -> None:
        far = opened(through(wire))
        assert far.read(ORDER) == []
        wire.losing = True
        with pytest.raises(StorageUnavailable, match="no connection, or it broke"):
            far.read(ORDER)
        assert far.read(ORDER) == []

    def test_a_write_whose_answer_is_lost_has_happened_once(
        self, store: PostgresStorage, opened: Opened, wire: Wire
    ) -> None:
        far = opened(through(wire))
        far.read(ORDER)
        for seq, header in enumerate((head(0, 5), None, head(2, None))):
            wire.losing = True
            with pytest.raises(StorageUnavailable):
                far.append(ORDER, seq, b"record %d" % seq, header)
            assert far.append(ORDER, seq, b"record %d" % seq, header) == b"record %d" % seq
        wire.losing = True
        with pytest.raises(StorageUnavailable):
            far.put_mail(ORDER, Mail("m", "1", 1, b"yes"))
        assert far.put_mail(ORDER, Mail("m", "1", 2, b"yes")) == Mail("m", "1", 1, b"yes")
        assert store.read(ORDER) == [b"record 0", b"record 1", b"record 2"]
        assert store.header(ORDER) == head(2, None)

    def test_the_engine_knows_its_own_record_by_the_nonce(
        self, store: PostgresStorage, opened: Opened, wire: Wire
    ) -> None:
        far = opened(through(wire))
        far.read(ORDER)

        def lose(ctx: Any) -> str:
            wire.losing = True  # of the append of this very step
            return "done"

        flow = create_workflow("order").step("a", lose).step("b", lose).step("c", lambda ctx: "done")
        result = FluxEngine(far, workflows=[flow]).execute(flow, {}, "o-1")
        assert [step.attempt for step in result.history] == [1, 1, 1]
        ref = InstanceRef("default", "order", "o-1")
        assert len(store.read(ref)) == 5
        check_invariants(store, ref, workflow=flow.build(), at_rest=True)

    def test_a_purge_that_is_cut_off_has_removed_all_or_nothing(
        self, store: PostgresStorage, opened: Opened, wire: Wire
    ) -> None:
        far = opened(through(wire))
        for seq in range(3):
            far.append(ORDER, seq, b"x", head(seq, 5))
        wire.losing = True  # the answer to its BEGIN
        with pytest.raises(StorageUnavailable):
            far.purge(ORDER, 2)
        assert store.read(ORDER) == [b"x"] * 3
        assert far.purge(ORDER, 2)
        assert (store.read(ORDER), store.header(ORDER)) == ([], None)

    def test_a_server_that_was_started_again_is_found(self) -> None:
        with running() as server:
            store = PostgresStorage(server.url, timeout=60)
            store.ensure()
            store.append(ORDER, 0, b"start")
            server.process.send_signal(signal.SIGINT)  # a fast shutdown, which does not wait for clients
            server.process.wait(60)
            with pytest.raises(StorageUnavailable):
                store.read(ORDER)
            again, _ = start(server.programs, server.folder, server.port)
            with again:
                assert store.read(ORDER) == [b"start"]
                store.close()
                again.kill()

    def test_a_transaction_that_its_caller_left_is_undone(self, store: PostgresStorage) -> None:
        def leave(cursor: Any) -> None:
            cursor.execute("BEGIN")
            cursor.execute(store._sql.append, ("acme/order/1", 0, b"half"))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store._write(leave)
        assert store.append(ORDER, 0, b"whole") is None


class TestEncryptedConnections:
    def test_large_records_pass_both_ways_and_the_connection_is_kept(self) -> None:
        with running(encrypted=True) as server:
            store = PostgresStorage(f"{server.url}?sslmode=require", timeout=60)
            store.ensure()
            first = store._read("SELECT pg_backend_pid()")
            assert store._read("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True,)]
            records = [bytes([seq]) * size for seq, size in enumerate((1, 8191, 8192, 16_384, 100_000, 3_000_000))]
            for seq, record in enumerate(records):
                assert store.append(ORDER, seq, record) is None
                assert store.tail(ORDER) == (seq, record)
            assert store.read(ORDER) == records
            assert store._read("SELECT pg_backend_pid()") == first
            with psycopg.connect(server.url, autocommit=True) as admin:
                terminate(admin)
            assert store.read(ORDER) == records
            store.close()


class TestTimeouts:
    def test_a_lock_that_somebody_holds_ends_the_call_in_time(
        self, store: PostgresStorage, opened: Opened, schema: str, postgres: Postgres
    ) -> None:
        impatient = opened(timeout=1.0)
        impatient.read(ORDER)
        with psycopg.connect(postgres.url) as other:
            other.execute(f"INSERT INTO {schema}.log VALUES ('acme/order/1', 0, 'x')".encode())
            begun = time.monotonic()
            with pytest.raises(StorageUnavailable, match=r"a statement took longer than the timeout|took longer"):
                impatient.append(ORDER, 0, b"start")
            assert time.monotonic() - begun < 5
            other.rollback()
        assert impatient.append(ORDER, 0, b"start") in {None, b"start"}, "the first one may have gone through at last"

    def test_a_server_that_says_nothing_ends_the_call_in_time(
        self, store: PostgresStorage, opened: Opened, wire: Wire
    ) -> None:
        far = opened(through(wire), timeout=1.0)
        far.read(ORDER)
        wire.silent = True
        begun = time.monotonic()
        with pytest.raises(StorageUnavailable, match="took longer than the timeout of PostgresStorage"):
            far.append(ORDER, 0, b"start")
        assert time.monotonic() - begun < 5
        wire.silent = False
        assert far.append(ORDER, 0, b"start") == b"start"

    def test_a_call_waits_for_a_connection_no_longer_than_that(
        self, store: PostgresStorage, opened: Opened, schema: str, postgres: Postgres
    ) -> None:
        narrow = opened(connections=1, timeout=1.0)
        narrow.read(ORDER)
        with psycopg.connect(postgres.url) as other:
            other.execute(f"INSERT INTO {schema}.log VALUES ('acme/order/1', 0, 'x')".encode())
            held = threading.Thread(target=lambda: narrow_append(narrow))
            held.start()
            while not narrow._sessions()._count or narrow._sessions()._idle:
                pass
            narrow._sessions().timeout = 0.2
            with pytest.raises(StorageUnavailable, match=r"all 1 connections of this process were busy for 0\.2 s"):
                narrow.read(ORDER)
            other.rollback()
            held.join(60)

    def test_a_session_keeps_what_it_acknowledges_whatever_the_role_says(
        self, store: PostgresStorage, opened: Opened, postgres: Postgres
    ) -> None:
        careless = opened(f"{postgres.url}?options=-c%20synchronous_commit%3Doff", timeout=7)
        shown = "SELECT current_setting('synchronous_commit'), current_setting('statement_timeout')"
        assert careless._read(shown) == [("on", "7s")]
        careful = opened(f"{postgres.url}?options=-c%20synchronous_commit%3Dremote_apply", timeout=10)
        assert careful._read(shown) == [("remote_apply", "10s")]


class TestClosing:
    def test_every_call_is_refused_then(self, store: PostgresStorage) -> None:
        store.append(ORDER, 0, b"start")
        store.close()
        store.close()
        for call in (lambda: store.read(ORDER), lambda: store.append(ORDER, 1, b"x"), store.ensure):
            with pytest.raises(StorageUnavailable, match=r"This PostgresStorage on postgres on .* was closed"):
                call()

    def test_no_connection_is_left(self, postgres: Postgres, opened: Opened, admin: psycopg.Connection) -> None:
        store = opened(f"{postgres.url}?application_name=closing")
        store.ensure()
        assert sessions(admin, "closing") == 1
        store.close()
        while sessions(admin, "closing"):
            pass

    def test_threads_share_a_few_connections(
        self, postgres: Postgres, opened: Opened, store: PostgresStorage, admin: psycopg.Connection
    ) -> None:
        shared = opened(f"{postgres.url}?application_name=sharing", connections=3)
        threads = [threading.Thread(target=lambda: [shared.read(ORDER) for _ in range(20)]) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sessions(admin, "sharing") <= 3


def narrow_append(store: PostgresStorage) -> None:
    store.append(ORDER, 0, b"start")


def through(wire: Wire) -> str:
    return f"postgresql://flux@127.0.0.1:{wire.port}/postgres?sslmode=disable&gssencmode=disable"


def terminate(admin: psycopg.Connection) -> None:
    """End every other connection, and wait until they have ended."""
    admin.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND application_name = 'flux'"
    )


def sessions(admin: psycopg.Connection, name: str) -> int:
    (row,) = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", (name,)).fetchall()
    found: int = row[0]
    return found
