"""What Google can do to us, and what the kit says then: patience up to a limit, and a sentence that says what to do."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from flux_core.deadline import MARGIN
from flux_core.errors import CallerError, CorruptRecord, DefinitionError, PayloadTooLarge, StorageUnavailable
from flux_core.ports import Mail
from flux_gcp import FirestoreSettings, FirestoreStorage, firestore_wire
from flux_gcp import settings as names
from flux_gcp.firestore_layout import LARGEST, PARTS
from tests.gcp.conftest import ORDER, head, loaded_of_googles
from tests.gcp.relay import COMMIT, QUERY, Bill, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.gcp.relay import Relay

Code = grpc.StatusCode


class TestSettings:
    def test_without_any_there_are_defaults(self) -> None:
        assert FirestoreSettings.from_env({}) == FirestoreSettings(None, "(default)", "flux_", MARGIN)

    def test_each_comes_from_its_variable(self) -> None:
        given = {names.PROJECT: "p", names.DATABASE: "d", names.PREFIX: "", names.TIMEOUT: "7.5"}
        store = FirestoreStorage.from_env(given)
        assert store.settings == FirestoreSettings("p", "d", "", 7.5)

    def test_every_variable_is_told_on_the_page(self, root: Path) -> None:
        page = (root / "docs" / "stores-firestore.md").read_text(encoding="utf-8")
        assert [name for name in names.VARIABLES if f"`{name}`" not in page] == []

    @pytest.mark.parametrize(
        ("variable", "value"),
        [(names.TIMEOUT, "soon"), (names.TIMEOUT, "0"), (names.PREFIX, "a/b"), (names.DATABASE, "a/b")],
    )
    def test_one_that_is_wrong_is_named(self, variable: str, value: str) -> None:
        with pytest.raises(DefinitionError, match=variable):
            FirestoreSettings.from_env({variable: value})

    def test_a_wrong_argument_is_refused_at_once(self) -> None:
        with pytest.raises(DefinitionError, match="positive number of seconds, not 0"):
            FirestoreStorage("p", timeout=0)
        with pytest.raises(DefinitionError, match="collection prefix"):
            FirestoreStorage("p", prefix="flux/")


class TestLaziness:
    def test_importing_the_adapter_and_making_a_store_loads_nothing_of_googles(self, root: Path) -> None:
        program = (
            f"import sys; sys.path[:0] = [{str(root)!r}, {str(root / 'adapters')!r}]\n"
            "import flux_gcp; flux_gcp.FirestoreStorage('p'); flux_gcp.FirestoreStorage.from_env({})\n"
            f"print({loaded_of_googles()})"
        )
        told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert told.stdout == "[]\n"

    def test_without_googles_library_the_message_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "flux_gcp.firestore_instances", None)
        with pytest.raises(StorageUnavailable, match=r"pip install '\.\[gcp\]'"):
            FirestoreStorage("p").tail(ORDER)

    def test_all_threads_use_one_client(self, store: FirestoreStorage) -> None:
        opened = []
        threads = [threading.Thread(target=lambda: opened.append((store.tail(ORDER), store._opened))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(instances) for _, instances in opened}) == 1


class TestClosing:
    def test_a_closed_store_refuses_every_call(self, store: FirestoreStorage) -> None:
        store.append(ORDER, 0, b"start")
        store.close()
        for call in (
            lambda: store.append(ORDER, 1, b"x"),
            lambda: store.read(ORDER),
            lambda: store.header(ORDER),
            lambda: store.due(1, 1),
        ):
            with pytest.raises(StorageUnavailable, match="was closed"):
                call()

    def test_a_store_that_was_never_used_is_closed_too(self) -> None:
        store = FirestoreStorage("p")
        store.close()
        with pytest.raises(StorageUnavailable, match="was closed"):
            store.read(ORDER)

    def test_closing_ends_a_call_that_is_under_way(self, store: FirestoreStorage, relay: Relay) -> None:
        asked = threading.Event()

        def slow(method: str, number: int) -> Trouble | None:
            asked.set()
            return Trouble(wait=3.0)

        relay.trouble = slow
        errors: list[Exception] = []

        def read() -> None:
            try:
                store.read(ORDER)
            except StorageUnavailable as error:
                errors.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        assert asked.wait(10)
        store.close()
        thread.join(10)
        assert ["was closed" in str(error) for error in errors] == [True]


class TestPatience:
    @pytest.mark.parametrize("code", [Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE, Code.ABORTED, Code.INTERNAL])
    def test_what_passes_is_waited_for(self, store: FirestoreStorage, relay: Relay, code: grpc.StatusCode) -> None:
        relay.trouble = lambda method, number: Trouble(code) if number < 3 else None
        assert store.append(ORDER, 0, b"x", head(0)) is None
        assert store.read(ORDER) == [b"x"]
        assert store.header(ORDER) == head(0)

    def test_the_pauses_grow(self, store: FirestoreStorage, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
        """50 ms, then twice as long each time up to 3 s; a part of it is left to chance."""
        pauses: list[float] = []
        monkeypatch.setattr(firestore_wire, "sleep", pauses.append)
        relay.trouble = lambda method, number: Trouble(Code.RESOURCE_EXHAUSTED) if number <= 9 else None
        assert store.append(ORDER, 0, b"x") is None
        assert len(pauses) == 9
        for place, pause in enumerate(pauses):
            assert 0.5 <= pause / min(0.05 * 2**place, 3.0) <= 1

    @pytest.mark.parametrize("call", ["append", "tail", "header"])
    def test_no_call_outlives_its_limit(
        self, relay: Relay, open_store: Callable[..., FirestoreStorage], call: str
    ) -> None:
        """The other side takes the request and says nothing."""
        store = open_store(relay.address, timeout=0.5)
        relay.trouble = lambda method, number: Trouble(wait=3.0)
        with pytest.raises(StorageUnavailable, match=rf"given up after 0\.5 s .{names.TIMEOUT}"):
            store.append(ORDER, 0, b"x") if call == "append" else getattr(store, call)(ORDER)
        assert [limit is not None and limit <= 0.5 for limit in relay.limits] == [True] * len(relay.limits)

    def test_the_limit_spans_all_calls_that_one_of_the_store_makes(
        self, relay: Relay, open_store: Callable[..., FirestoreStorage], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A conflict needs a second call, which has only what the first has left of the time."""
        store = open_store(relay.address, timeout=60.0)
        store.append(ORDER, 0, b"theirs")
        relay.limits.clear()
        passed = 0.0
        monkeypatch.setattr("flux_gcp.firestore_wire.monotonic", lambda: time.monotonic() + passed)

        def take_40_seconds(method: str, number: int) -> Trouble | None:
            nonlocal passed
            passed += 40.0
            return Trouble(Code.ALREADY_EXISTS) if method == COMMIT else None

        relay.again(take_40_seconds)
        assert store.append(ORDER, 0, b"mine") == b"theirs"
        first, second = relay.limits
        assert first is not None
        assert second is not None
        assert 20.5 < first <= 30.5, "half of the time, so that another try is left if it is lost"
        assert second <= 20.5

    def test_each_page_of_a_long_log_has_the_whole_limit_and_all_are_of_one_moment(
        self,
        store: FirestoreStorage,
        direct: FirestoreStorage,
        relay: Relay,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("flux_gcp.firestore_wire.PAGE", 4)
        for seq in range(10):
            direct.append(ORDER, seq, b"%d" % seq)
        passed = 0.0
        monkeypatch.setattr("flux_gcp.firestore_wire.monotonic", lambda: time.monotonic() + passed)

        def work(method: str, number: int) -> None:
            nonlocal passed
            passed += 59.0
            if number == 2:
                assert direct.purge(ORDER, 9)

        relay.meanwhile = work
        assert store.read(ORDER) == [b"%d" % seq for seq in range(10)]
        assert len(relay.limits) == 3
        assert store.read(ORDER) == []
        for seq in range(8):
            direct.append(ORDER, seq, b"%d" % seq)
        relay.meanwhile = lambda method, number: None
        assert store.read(ORDER) == [b"%d" % seq for seq in range(8)], "the last page is full"
        assert store.read(ORDER, 3) == [b"%d" % seq for seq in range(3, 8)]

    def test_what_does_not_pass_is_not_tried_again(self, store: FirestoreStorage, relay: Relay) -> None:
        relay.trouble = lambda method, number: Trouble(Code.PERMISSION_DENIED)
        with pytest.raises(StorageUnavailable):
            store.append(ORDER, 0, b"x")
        assert len(relay.seen) == 1


class TestMessages:
    @pytest.mark.parametrize(
        ("code", "details", "words"),
        [
            (Code.PERMISSION_DENIED, "Missing or insufficient permissions.", "roles/datastore.user"),
            (Code.UNAUTHENTICATED, "invalid credentials", "GOOGLE_APPLICATION_CREDENTIALS"),
            (
                Code.NOT_FOUND,
                "The database (default) does not exist for project p",
                "gcloud firestore databases create",
            ),
            (Code.NOT_FOUND, "The database (default) does not exist for project p", names.DATABASE),
            (
                Code.FAILED_PRECONDITION,
                "The Cloud Firestore API is not available for Firestore in Datastore Mode database.",
                "native mode",
            ),
        ],
    )
    def test_one_says_what_to_do(
        self, store: FirestoreStorage, relay: Relay, code: grpc.StatusCode, details: str, words: str
    ) -> None:
        relay.trouble = lambda method, number: Trouble(code, details)
        for call in (lambda: store.append(ORDER, 0, b"x"), lambda: store.read(ORDER), lambda: store.nudge(ORDER, 1, 1)):
            with pytest.raises(StorageUnavailable, match=words.replace("(", r"\(")):
                call()

    def test_an_index_that_is_missing_names_the_call_that_makes_it(self, store: FirestoreStorage, relay: Relay) -> None:
        relay.trouble = lambda method, number: Trouble(Code.FAILED_PRECONDITION, "The query requires an index.")
        with pytest.raises(StorageUnavailable, match=r"ensure\(\), or deploy what `python -m flux_gcp"):
            store.list("acme")

    @pytest.mark.parametrize("code", [Code.RESOURCE_EXHAUSTED, Code.ABORTED, Code.UNAVAILABLE])
    def test_one_after_patience_says_so(
        self, relay: Relay, open_store: Callable[..., FirestoreStorage], code: grpc.StatusCode
    ) -> None:
        store = open_store(relay.address, timeout=0.2)
        relay.trouble = lambda method, number: Trouble(code)
        with pytest.raises(StorageUnavailable, match=r"given up after 0\.2 s"):
            store.append(ORDER, 0, b"x")

    def test_no_credentials_at_all(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
        with pytest.raises(StorageUnavailable, match=f"application-default login.*{names.EMULATOR}"):
            FirestoreStorage("p").read(ORDER)

    def test_no_project(self) -> None:
        from google.auth.credentials import AnonymousCredentials

        with pytest.raises(
            StorageUnavailable, match=rf"FirestoreStorage\(project=.*{names.GOOGLE_PROJECT}.*{names.PROJECT}"
        ):
            FirestoreStorage(credentials=AnonymousCredentials()).read(ORDER)

    def test_nobody_at_the_address(self, open_store: Callable[..., FirestoreStorage]) -> None:
        store = open_store("127.0.0.1:1", timeout=0.5)
        with pytest.raises(StorageUnavailable, match=r"did not answer and was given up.*firestore\.googleapis\.com"):
            store.append(ORDER, 0, b"x")

    def test_no_emulator_where_the_variable_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(names.EMULATOR, "127.0.0.1:1")
        with pytest.raises(StorageUnavailable, match=rf"{names.EMULATOR} is set to '127\.0\.0\.1:1': does an emulator"):
            FirestoreStorage("p", timeout=0.5).append(ORDER, 0, b"x")

    def test_a_limit_below_one_and_a_foreign_cursor_are_the_callers_mistake(self, store: FirestoreStorage) -> None:
        with pytest.raises(CallerError, match="at least 1, not 0"):
            store.list("acme", limit=0)


class TestSizes:
    def test_the_largest_record_mail_and_header_go_in(self, store: FirestoreStorage) -> None:
        long = ORDER._replace(tenant="t" * 128, workflow="w" * 128, id="i" * 128)
        assert store.append(long, 0, b"x" * LARGEST, head(0)) is None
        assert store.append(long, 0, b"") == b"x" * LARGEST
        mail = Mail("s" * 128, "m" * 128, 1, b"x" * LARGEST)
        assert store.put_mail(long, mail) is None
        assert store.mail(long) == [mail]

    def test_above_that_nothing_is_sent_and_the_message_says_what_to_do(
        self, store: FirestoreStorage, relay: Relay
    ) -> None:
        with pytest.raises(PayloadTooLarge, match=r"Record 7 of order/1 .*1,046,529 bytes.*payloads="):
            store.append(ORDER, 7, b"x" * (LARGEST + 1))
        with pytest.raises(PayloadTooLarge, match="The signal 'go'"):
            store.put_mail(ORDER, Mail("go", "m", 1, b"x" * (LARGEST + 1)))
        with pytest.raises(PayloadTooLarge, match="The snapshot after record 7"):
            store.put_snapshot(ORDER, 7, b"x" * (PARTS * LARGEST + 1))
        assert relay.take() == Bill()

    def test_what_firestore_itself_finds_too_large_is_told_likewise_and_not_tried_again(
        self, store: FirestoreStorage, relay: Relay
    ) -> None:
        """The emulator takes less in one commit than Firestore does."""
        with pytest.raises(PayloadTooLarge, match="10 MiB a commit"):
            store.put_snapshot(ORDER, 7, b"x" * (5 * LARGEST))

    def test_a_snapshot_of_several_parts_is_whole_or_not_there(self, store: FirestoreStorage, relay: Relay) -> None:
        state = b"0123456789" * (3 * LARGEST // 10)
        store.put_snapshot(ORDER, 9, state)
        store.put_snapshot(ORDER, 8, b"older")
        assert store.snapshot(ORDER) == (9, state)
        assert [len(message.writes) for method, message in relay.seen if method == COMMIT] == [3, 1]

    def test_a_snapshot_that_has_lost_a_part_is_told(self, store: FirestoreStorage) -> None:
        store.put_snapshot(ORDER, 9, b"x" * (LARGEST + 1))
        wire, layout = store._opened.wire, store._opened.wire.names  # type: ignore[union-attr]
        from flux_gcp.firestore_messages import delete

        wire.commit([delete(layout.snapshot(layout.instance(ORDER), 9, 1))], wire.end())
        with pytest.raises(CorruptRecord, match="has lost a part"):
            store.snapshot(ORDER)


def test_a_log_with_a_gap_is_told_naming_the_newest_record(store: FirestoreStorage) -> None:
    for seq in (0, 1, 5):
        store.append(ORDER, seq, b"x")
    with pytest.raises(CorruptRecord, match="has 3 records from 0 on, but the newest is 5"):
        store.read(ORDER)


def test_a_query_has_the_whole_time_of_its_call(store: FirestoreStorage, relay: Relay) -> None:
    """A long log streams for longer than a single write may take."""
    store.append(ORDER, 0, b"x")
    relay.again(lambda method, number: Trouble(wait=1.0) if (method, number) == (QUERY, 1) else None)
    assert store.read(ORDER) == [b"x"]
