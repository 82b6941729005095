"""Messages in a storage queue: put by one REST request, read by Microsoft's own client and by the Functions host."""

from __future__ import annotations

import json
import ssl
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from azure.storage.queue import (
    AccountSasPermissions,
    QueueClient,
    ResourceTypes,
    TextBase64DecodePolicy,
    generate_account_sas,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flux_azure import QueueScheduler
from flux_azure.account import account
from flux_azure.storage_queue import LONGEST, StorageQueue
from flux_core import FluxEngine, InstanceRef, create_workflow, sleep
from flux_core.errors import SchedulerUnavailable
from flux_local import SQLiteStorage
from tests.services.azurite import ACCOUNT, KEY
from tests.services.proxy import LOSE, Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.azurite import AzuriteQueue

ORDER = InstanceRef("default", "order", "order-1")


@pytest.fixture
def client(azurite_queue: AzuriteQueue) -> Iterator[QueueClient]:
    """A queue of its own, as Microsoft's package reads it where messages are in base64."""
    client = QueueClient.from_connection_string(
        azurite_queue.connection(), f"queue-{uuid.uuid4().hex[:12]}", message_decode_policy=TextBase64DecodePolicy()
    )
    client.create_queue()
    with client:
        yield client


_OPENED: list[StorageQueue] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """What a test has opened, it closes."""
    yield
    while _OPENED:
        _OPENED.pop().close()


def queue(connection: str, name: str) -> StorageQueue:
    _OPENED.append(StorageQueue(account({"AzureWebJobsStorage": connection}), name))
    return _OPENED[-1]


@pytest.fixture
def proxy(azurite_queue: AzuriteQueue) -> Iterator[Proxy]:
    between = Proxy(azurite_queue.endpoint)
    yield between
    between.close()


def through(proxy: Proxy, name: str) -> StorageQueue:
    """The queue on a way on which answers are lost. Its path is signed, its host is not."""
    return queue(f"AccountName={ACCOUNT};AccountKey={KEY};QueueEndpoint={proxy.address}", name)


class TestAMessage:
    def test_names_the_instance_to_be_ticked(self, azurite_queue: AzuriteQueue, client: QueueClient) -> None:
        QueueScheduler(queue(azurite_queue.connection(), client.queue_name)).wake(ORDER, 0)
        (message,) = client.receive_messages()
        told = {"action": "wake", "tenant": "default", "workflow": "order", "id": "order-1"}
        assert json.loads(message.content) == told

    def test_never_expires(self, azurite_queue: AzuriteQueue, client: QueueClient) -> None:
        queue(azurite_queue.connection(), client.queue_name).put("{}")
        (message,) = client.receive_messages()
        assert message.expires_on is not None
        assert message.expires_on.year == 9999

    @pytest.mark.parametrize(("delay", "seconds"), [(-5.0, 0), (0.0, 0), (0.2, 1), (1.0, 1), (59.001, 60)])
    def test_comes_after_its_delay_and_not_before(
        self, proxy: Proxy, client: QueueClient, delay: float, seconds: int
    ) -> None:
        through(proxy, client.queue_name).put("{}", delay)
        (sent,) = proxy.seen
        assert f"visibilitytimeout={seconds}&messagettl=-1" in sent.path

    def test_may_be_delayed_as_long_as_the_service_allows(
        self, azurite_queue: AzuriteQueue, client: QueueClient
    ) -> None:
        mine = queue(azurite_queue.connection(), client.queue_name)
        mine.put("{}", LONGEST)
        mine.put("{}", 2 * LONGEST)
        assert QueueScheduler(mine).horizon < LONGEST
        assert client.get_queue_properties().approximate_message_count == 2
        assert client.peek_messages() == []

    def test_keeps_its_text(self, azurite_queue: AzuriteQueue, client: QueueClient) -> None:
        text = '{"id": "<&>\\"ü€😀\u2028"}'
        queue(azurite_queue.connection(), client.queue_name).put(text)
        (message,) = client.receive_messages()
        assert message.content == text

    def test_is_let_in_by_a_shared_access_signature(self, azurite_queue: AzuriteQueue, client: QueueClient) -> None:
        signature = generate_account_sas(
            ACCOUNT,
            KEY,
            ResourceTypes(object=True),
            AccountSasPermissions(add=True),
            datetime.now(UTC) + timedelta(hours=1),
        )
        connection = f"QueueEndpoint={azurite_queue.endpoint};SharedAccessSignature={signature};AccountName={ACCOUNT}"
        queue(connection, client.queue_name).put("{}")
        assert len(client.peek_messages()) == 1


class TestALostAnswer:
    def test_costs_one_more_try_and_perhaps_a_second_message(self, proxy: Proxy, client: QueueClient) -> None:
        lost = iter([LOSE])
        proxy.rule = lambda _: next(lost, None)
        through(proxy, client.queue_name).put("{}")
        assert len(client.peek_messages(5)) == 2

    def test_every_time_is_told(self, proxy: Proxy, client: QueueClient) -> None:
        proxy.rule = lambda _: LOSE
        with pytest.raises(SchedulerUnavailable, match=r"did not answer.*Nothing is lost"):
            through(proxy, client.queue_name).put("{}")
        assert len(proxy.seen) == 2

    def test_on_a_kept_connection_is_made_good_on_a_new_one(self, proxy: Proxy, client: QueueClient) -> None:
        mine = through(proxy, client.queue_name)
        mine.put("{}")
        lost = iter([LOSE])
        proxy.rule = lambda _: next(lost, None)
        mine.put("{}")
        assert len(proxy.seen) == 3


class TestAServiceThatIsBusy:
    def test_is_asked_once_more(self, proxy: Proxy, client: QueueClient) -> None:
        busy = iter([503])
        proxy.rule = lambda _: next(busy, None)
        through(proxy, client.queue_name).put("{}")
        assert len(client.peek_messages()) == 1

    def test_for_long_is_told(self, proxy: Proxy, client: QueueClient) -> None:
        proxy.rule = lambda _: 503
        with pytest.raises(SchedulerUnavailable, match=r"HTTP 503.*Nothing is lost"):
            through(proxy, client.queue_name).put("{}")

    def test_and_hangs_is_given_up_within_seconds(self, client: QueueClient, monkeypatch: pytest.MonkeyPatch) -> None:
        import socket

        monkeypatch.setattr("flux_azure.storage_queue.READ_TIMEOUT", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            where = f"http://127.0.0.1:{silent.getsockname()[1]}/{ACCOUNT}"
            mute = queue(f"AccountName={ACCOUNT};AccountKey={KEY};QueueEndpoint={where}", "flux-work")
            begun = time.monotonic()
            with pytest.raises(SchedulerUnavailable, match="did not answer"):
                mute.put("{}")
            assert time.monotonic() - begun < 30


class TestAWrongSetting:
    def test_of_the_queue_names_the_command_that_makes_it(self, azurite_queue: AzuriteQueue) -> None:
        with pytest.raises(SchedulerUnavailable, match="az storage queue create --name no-such-queue") as told:
            queue(azurite_queue.connection(), "no-such-queue").put("{}")
        assert "FLUX_QUEUE" in str(told.value)

    def test_of_the_key_names_the_setting_and_the_role(self, azurite_queue: AzuriteQueue, client: QueueClient) -> None:
        wrong = f"AccountName={ACCOUNT};AccountKey=bm9wZQ==;QueueEndpoint={azurite_queue.endpoint}"
        with pytest.raises(SchedulerUnavailable, match=r"Correct AzureWebJobsStorage.*Storage Queue Data") as told:
            queue(wrong, client.queue_name).put("{}")
        assert "bm9wZQ" not in str(told.value)


class TestConnections:
    def test_are_used_again(self, proxy: Proxy, client: QueueClient) -> None:
        mine = through(proxy, client.queue_name)
        for _ in range(3):
            mine.put("{}")
        assert len(mine._idle) == 1
        mine.close()
        assert not mine._idle

    def test_are_not_shared_by_threads_at_the_same_time(self, azurite_queue: AzuriteQueue, client: QueueClient) -> None:
        mine = queue(azurite_queue.connection(), client.queue_name)
        threads = [threading.Thread(target=mine.put, args=("{}",)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.get_queue_properties().approximate_message_count == 16
        mine.close()


class TestAnEncryptedConnection:
    """As Azure has it; Azurite is spoken to in the clear."""

    @pytest.fixture
    def encrypted(self, tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
        """A service that takes every message: where it is, its certificate, and the requests that it got."""
        certificate, key = certify(tmp_path)
        seen: list[str] = []

        class Service(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                seen.append(self.path)
                self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}", certificate, seen
        server.shutdown()
        thread.join()
        server.server_close()

    def test_is_used_again(self, encrypted: tuple[str, Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
        where, certificate, seen = encrypted
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        mine = queue(f"AccountName=orders;AccountKey={KEY};QueueEndpoint={where}", "flux-work")
        mine.put("{}")
        mine.put("{}", 30)
        assert seen == [f"/flux-work/messages?visibilitytimeout={delay}&messagettl=-1" for delay in (0, 30)]
        assert len(mine._idle) == 1

    def test_to_somebody_else_is_refused(
        self, encrypted: tuple[str, Path, list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        where, _, seen = encrypted
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        with pytest.raises(SchedulerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            queue(f"AccountName=orders;AccountKey={KEY};QueueEndpoint={where}", "flux-work").put("{}")
        assert seen == []


def certify(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    usual = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    signed = usual.add_extension(address, critical=False).sign(key, hashes.SHA256())
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "certificate.pem").write_bytes(signed.public_bytes(encoding))
    (folder / "key.pem").write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    return folder / "certificate.pem", folder / "key.pem"


class TestAnEngine:
    def test_without_its_queue_goes_on_and_loses_nothing(self, azurite_queue: AzuriteQueue, tmp_path: Path) -> None:
        nap = create_workflow("nap").step("nap", lambda ctx: sleep(1))
        broken = QueueScheduler(queue(azurite_queue.connection(), "no-such-queue"))
        engine = FluxEngine(SQLiteStorage(tmp_path / "flux.db"), workflows=[nap], scheduler=broken)
        run = engine.execute("nap", id="n-1")
        assert run.status == "suspended"
        with pytest.raises(SchedulerUnavailable):
            engine.sweep()
        assert engine.storage.due(run.state.updated_at + 2000, 10), "the due index has it"
