"""What a blob store says when the service refuses, loses, hangs or is not there; and that it comes back in time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from flux_blob import BlobPayloads, BlobStorage, layout
from flux_blob.objects import Trouble
from flux_core.deadline import MARGIN
from flux_core.errors import CorruptRecord, DefinitionError, PayloadTooLarge, StorageUnavailable
from flux_core.ports import Header, InstanceRef, Mail
from tests.blob.places import Spot, spots
from tests.blob.watched import twin, watch
from tests.services.proxy import HANG, LOSE, Proxy, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_blob.objects import Entry

ORDER = InstanceRef("acme", "order", "1")
RUNNING = Header("running", 1, 1, 1, 0, 5)


@pytest.fixture(params=["s3", "az", "gs"])
def spot(request: pytest.FixtureRequest) -> Spot:
    found = spots(request.param, request)()
    found.store().ensure()
    return found


@pytest.fixture
def proxy(spot: Spot) -> Iterator[Proxy]:
    between = Proxy(spot.options["endpoint"])
    yield between
    between.close()


@pytest.fixture
def through(spot: Spot, proxy: Proxy) -> Spot:
    return Spot(spot.address, {**spot.options, "endpoint": proxy.address})


def is_put(seen: Seen) -> bool:
    return seen.method in {"PUT", "POST"} and "?delete" not in seen.path and "comp=batch" not in seen.path


class TestLostAnswers:
    def test_a_record_whose_answer_is_lost_is_written_once_and_told_as_written_or_found(
        self, through: Spot, proxy: Proxy
    ) -> None:
        store = through.store()
        puts = 0

        def lose_each_first(seen: Seen) -> str | None:
            nonlocal puts
            puts += is_put(seen)
            return LOSE if is_put(seen) and puts % 2 else None

        proxy.rule = lose_each_first
        assert store.append(ORDER, 0, b"start", RUNNING) is None, "the token in the header tells that it is ours"
        assert store.append(ORDER, 1, b"step") in {None, b"step"}, "a plain record is found: the engine's nonce tells"
        proxy.rule = lambda _: None
        assert store.read(ORDER) == [b"start", b"step"]
        assert [entry.ref for entry in store.due(10, 10)] == [ORDER]

    def test_mail_whose_answer_is_lost_is_there_once(self, through: Spot, proxy: Proxy) -> None:
        store, mail = through.store(), Mail("go", "1", 5, b"x")
        first = iter([True])
        proxy.rule = lambda seen: LOSE if is_put(seen) and next(first, False) else None
        assert store.put_mail(ORDER, mail) in {None, mail}
        assert store.mail(ORDER) == [mail]


class TestTheTimeOfACall:
    def test_is_by_default_the_margin_before_the_deadline_of_an_invocation(self) -> None:
        assert BlobStorage("memory://")._connection.time_limit == MARGIN

    def test_begins_anew_with_each_object_of_a_long_log(self) -> None:
        store = BlobStorage("memory://", time_limit=1.0)
        for seq in range(64):
            store.append(ORDER, seq, b"x")
        objects, told = watch(store), 0
        inner = objects.inner.get

        def slow(key: str) -> bytes | None:
            nonlocal told
            told += 1
            time.sleep(0.2)
            if told == 60:  # later than any single request may begin
                raise Trouble(StorageUnavailable("busy"), passing=True)
            return inner(key)

        objects.inner.get = slow  # type: ignore[method-assign]
        assert len(store.read(ORDER)) == 64


class TestThreads:
    def test_that_use_a_store_first_at_the_same_time_get_one_client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import flux_blob.places

        def slowly(*arguments: Any, inner: Any = flux_blob.places.open_place) -> Any:
            time.sleep(0.05)
            return inner(*arguments)

        monkeypatch.setattr("flux_blob.places.open_place", slowly)
        store = BlobStorage("memory://")
        with ThreadPoolExecutor(8) as threads:
            wins = [*threads.map(lambda number: store.append(ORDER, 0, b"%d" % number), range(8))]
        assert wins.count(None) == 1

    def test_that_are_at_work_when_the_store_is_closed_are_told_so(self) -> None:
        store = BlobStorage("memory://")
        for seq in range(3):
            store.append(ORDER, seq, b"x")
        objects = watch(store)
        inner = objects.inner.keys

        def close_meanwhile(folder: str, after: str) -> Iterator[list[Entry]]:
            store.close()
            return inner(folder, after)

        objects.inner.keys = close_meanwhile  # type: ignore[method-assign]
        with pytest.raises(StorageUnavailable, match="was closed"):
            store.read(ORDER)


class TestBusyServices:
    def test_a_service_that_throttles_is_asked_again(self, through: Spot, proxy: Proxy) -> None:
        store = through.store()
        answers = iter([503, 429, 500])
        proxy.rule = lambda _: next(answers, None)
        assert store.append(ORDER, 0, b"start") is None
        assert store.read(ORDER) == [b"start"]

    def test_a_conflict_with_another_conditional_write_is_looked_at_and_tried_again(
        self, through: Spot, proxy: Proxy
    ) -> None:
        """S3 says 409 while another conditional write of the key is under way, and nothing may come of that one."""
        store = through.store()
        answers = iter([409])
        proxy.rule = lambda seen: next(answers, None) if is_put(seen) else None
        assert store.append(ORDER, 0, b"start") is None
        assert store.read(ORDER) == [b"start"]

    def test_a_conflict_that_does_not_end_is_unavailable_within_the_time_limit(self) -> None:
        store = BlobStorage("memory://", time_limit=0.4)
        objects = watch(store)
        objects.put = lambda key, data: key.startswith("_")  # type: ignore[method-assign]
        for call in (
            lambda: store.append(ORDER, 0, b"start"),
            lambda: store.append(ORDER, 0, b"start", RUNNING),
            lambda: store.put_mail(ORDER, Mail("go", "1", 5, b"x")),
        ):
            objects.requests.clear()
            with pytest.raises(StorageUnavailable, match=r"within 0\.4 s.*time_limit"):
                call()
            assert len(objects.requests) < 20, "it pauses between its tries"

    def test_what_does_not_pass_is_unavailable_within_the_time_limit(self, through: Spot, proxy: Proxy) -> None:
        store = through.store(time_limit=1.0)
        proxy.rule = lambda _: 503
        begun = time.monotonic()
        with pytest.raises(StorageUnavailable, match=through.address):
            store.append(ORDER, 0, b"start")
        assert time.monotonic() - begun < 5, "the limit, and what a busy machine adds"
        proxy.rule = lambda _: None
        assert store.append(ORDER, 0, b"start") is None, "the store can be used on"

    def test_a_service_that_hangs_is_unavailable_within_the_time_limit(self, through: Spot, proxy: Proxy) -> None:
        store = through.store(time_limit=1.0)
        proxy.rule = lambda _: HANG
        begun = time.monotonic()
        with pytest.raises(StorageUnavailable, match=through.address):
            store.tail(ORDER)
        assert time.monotonic() - begun < 5, "the limit, and what a busy machine adds"


COMMANDS = {
    "s3": "aws s3 mb s3://",
    "az": "az storage container create --name ",
    "gs": "storage buckets create gs://",
}
SETTINGS = {
    "s3": "AWS_ACCESS_KEY_ID.*s3:PutObject",
    "az": "AZURE_STORAGE_ACCOUNT_KEY.*Storage Blob Data Contributor",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS.*roles/storage.objectUser",
}


class TestWhatErrorsSay:
    def test_a_place_that_is_missing_names_the_command_that_makes_it(self, spot: Spot) -> None:
        scheme = spot.address[:2]
        store = Spot(f"{scheme}://no-such-place", spot.options).store()
        for call in (
            lambda: store.append(ORDER, 0, b"start"),
            lambda: store.tail(ORDER),
            lambda: store.put_mail(ORDER, Mail("a", "b", 1, b"")),
            lambda: store.due(1, 1),
        ):
            with pytest.raises(StorageUnavailable, match=f"{COMMANDS[scheme]}no-such-place"):
                call()

    def test_refused_access_names_the_settings(self, through: Spot, proxy: Proxy) -> None:
        store = through.store()
        for status in (401, 403):
            proxy.rule = lambda _, status=status: status  # type: ignore[misc]
            proxy.seen.clear()
            with pytest.raises(StorageUnavailable, match=SETTINGS[through.address[:2]]):
                store.append(ORDER, 0, b"start")
            assert len(proxy.seen) <= 3, "it is not tried again and again"

    def test_what_the_service_finds_too_large_is_told_as_that(self, through: Spot, proxy: Proxy) -> None:
        proxy.rule = lambda seen: 413 if is_put(seen) else None
        with pytest.raises(PayloadTooLarge, match="payloads="):
            through.store().append(ORDER, 0, b"start")

    def test_a_bucket_in_another_region_is_told(self, request: pytest.FixtureRequest) -> None:
        spot = spots("s3", request)()
        proxy = Proxy(spot.options["endpoint"])
        proxy.rule = lambda _: 301
        with pytest.raises(StorageUnavailable, match="AWS_REGION"):
            Spot(spot.address, {**spot.options, "endpoint": proxy.address}).store().tail(ORDER)
        proxy.close()

    @pytest.mark.parametrize("address", ["", "s3://", "ftp://x/y", "s3://bucket//x", "s3://bucket/../x", "memory://x"])
    def test_an_address_that_names_no_place_is_refused(self, address: str) -> None:
        for make in (BlobStorage, BlobPayloads):
            with pytest.raises(DefinitionError, match=r"s3://bucket/root.*path of a folder"):
                make(address)

    @pytest.mark.parametrize("limit", [0, -1.0, float("nan")])
    def test_a_time_limit_that_is_none_is_refused(self, limit: float) -> None:
        with pytest.raises(DefinitionError, match="time_limit of more than 0 seconds"):
            BlobStorage("memory://", time_limit=limit)

    def test_an_option_that_the_client_does_not_know_is_refused(self) -> None:
        for address in ("s3://bucket", "az://container", "gs://bucket"):
            with pytest.raises(DefinitionError, match="colour"):
                BlobStorage(address, options={"colour": "blue"}).tail(ORDER)

    def test_a_folder_that_cannot_be_made_is_told(self) -> None:
        with pytest.raises(StorageUnavailable, match="Check the path"):
            BlobStorage("/proc/flux/store").append(ORDER, 0, b"x")

    def test_a_closed_store_refuses_every_call(self) -> None:
        for store in (BlobStorage("memory://"), BlobPayloads("memory://")):
            store.close()
            with pytest.raises(StorageUnavailable, match="was closed"):
                store.ensure()


class TestDamage:
    def test_a_record_that_was_lost_is_not_read_over(self) -> None:
        store = BlobStorage("memory://")
        for seq in range(5):
            store.append(ORDER, seq, b"x")
        objects = watch(store)
        objects.delete([layout.record(store._layout.instance(ORDER), 2)])
        for look in (twin(store).read, twin(store).tail, twin(store).header):
            with pytest.raises(CorruptRecord, match=r"a record 3 but no record 2.*backup"):
                look(ORDER)

    def test_an_object_that_is_none_of_ours_is_told(self) -> None:
        store = BlobStorage("memory://")
        objects = watch(store)
        objects.put(layout.record(store._layout.instance(ORDER), 0), b"hello")
        with pytest.raises(CorruptRecord, match=r"begins with b'hello'.*Nothing was changed"):
            store.read(ORDER)

    def test_one_damaged_instance_does_not_stop_a_sweep_and_is_told(self) -> None:
        store = BlobStorage("memory://")
        other = ORDER._replace(id="2")
        for ref in (ORDER, other):
            store.append(ref, 0, b"x", RUNNING)
        objects = watch(store)
        objects.delete([layout.record(store._layout.instance(ORDER), 0)])
        objects.put(layout.record(store._layout.instance(ORDER), 0), b"hello")
        fresh = twin(store)
        assert {entry.ref for entry in fresh.due(10, 10)} == {ORDER, other}
        assert [entry.ref for entry in fresh.list("acme").items] == [other]
