"""What goes wrong between the store and DynamoDB: lost answers, throttling, conflicts, errors that need somebody."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest

from flux_aws import DynamoDBStorage
from flux_core import FluxEngine, create_workflow
from flux_core.deadline import MARGIN
from flux_core.errors import DefinitionError, PayloadTooLarge, StorageUnavailable
from flux_core.ports import Header, InstanceRef, Mail
from flux_core.testing import SeededEntropy, VirtualClock
from tests.aws.wire import DROPPED, LOST, Answer, Wire, cancelled, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import Context

ORDER = InstanceRef("acme", "order", "1")
NOW = 1_700_000_000_000
HEADER = Header("running", NOW, NOW, 1, 0, NOW + 100)
THROTTLED = refusal("ProvisionedThroughputExceededException", "too fast")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store(open_store: Callable[..., DynamoDBStorage], clock: VirtualClock) -> DynamoDBStorage:
    return open_store(clock=clock, entropy=SeededEntropy(), call_timeout=60)


@pytest.fixture
def wire(store: DynamoDBStorage) -> Wire:
    return Wire(store)


class TestALostAnswer:
    def test_of_a_step_gives_back_what_was_written(self, store: DynamoDBStorage, wire: Wire) -> None:
        wire.trouble = [LOST]
        assert store.append(ORDER, 0, b"mine") == b"mine"
        assert wire.take() == ["PutItem", "PutItem"]
        assert store.read(ORDER) == [b"mine"]

    def test_of_a_record_with_a_header_leaves_both_once(self, store: DynamoDBStorage, wire: Wire) -> None:
        wire.trouble = [LOST]
        assert store.append(ORDER, 0, b"mine", HEADER) == b"mine"
        assert (store.read(ORDER), store.header(ORDER)) == ([b"mine"], HEADER)

    def test_of_mail_gives_back_that_mail(self, store: DynamoDBStorage, wire: Wire) -> None:
        mail = Mail("go", "m1", NOW, b"1")
        wire.trouble = [LOST]
        assert store.put_mail(ORDER, mail) == mail
        assert store.mail(ORDER) == [mail]

    def test_of_a_snapshot_is_harmless(self, store: DynamoDBStorage, wire: Wire) -> None:
        wire.trouble = [LOST]
        store.put_snapshot(ORDER, 3, b"state")
        assert store.snapshot(ORDER) == (3, b"state")

    def test_of_a_nudge_is_still_a_nudge(self, store: DynamoDBStorage, wire: Wire) -> None:
        store.append(ORDER, 0, b"start", HEADER)
        wire.trouble = [LOST]
        assert store.nudge(ORDER, 1, NOW) is True
        assert [entry.due for entry in store.due(NOW + 1_000, 10)] == [NOW]

    def test_of_a_purge_is_still_a_purge(self, store: DynamoDBStorage, wire: Wire) -> None:
        for lost in range(4):
            store.append(ORDER, 0, b"start", HEADER)
            store.append(ORDER, 1, b"end")
            wire.take()
            wire.trouble = [*[None] * lost, LOST]
            assert store.purge(ORDER, 1) is True
            assert wire.trouble == []
            assert (store.read(ORDER), store.header(ORDER)) == ([], None)

    def test_at_any_request_of_a_run_changes_nothing(
        self, open_store: Callable[..., DynamoDBStorage], clock: VirtualClock
    ) -> None:
        charged: list[str] = []

        def charge(ctx: Context) -> object:
            charged.append(ctx.idempotency_key)
            return {"id": "ch_1"}

        workflow = create_workflow("order").commit("charge", charge).step("ship", lambda ctx: ctx.data.update(at="now"))
        store = open_store(clock=clock)
        wire = Wire(store)
        engine = FluxEngine(store, workflows=[workflow], clock=clock)
        for request in range(5):
            wire.trouble = [*[None] * request, LOST]
            result = engine.execute(workflow, {"n": request}, str(request))
            assert (result.status, result.data) == ("completed", {"at": "now"})
            assert wire.trouble == []
        assert len(charged) == len(set(charged)) == 5


class TestWhatPasses:
    @pytest.mark.parametrize(
        "trouble",
        [
            THROTTLED,
            refusal("ThrottlingException"),
            refusal("RequestLimitExceeded"),
            refusal("InternalServerError", status=500),
            Answer(503, {}),
            refusal("TransactionConflictException"),
            DROPPED,
        ],
        ids=str,
    )
    def test_a_step_is_written_by_the_next_attempt(
        self, store: DynamoDBStorage, wire: Wire, trouble: str | Answer
    ) -> None:
        wire.trouble = [trouble, trouble]
        assert store.append(ORDER, 0, b"mine") is None
        assert wire.take() == ["PutItem"] * 3

    @pytest.mark.parametrize(
        "trouble",
        [
            cancelled("TransactionConflict", "None"),
            cancelled("None", "ThrottlingError"),
            cancelled("None", "ProvisionedThroughputExceeded"),
            refusal("TransactionInProgressException"),
            DROPPED,
        ],
        ids=str,
    )
    def test_a_transaction_is_carried_out_by_the_next_attempt_with_the_same_token(
        self, store: DynamoDBStorage, wire: Wire, trouble: str | Answer
    ) -> None:
        wire.trouble = [trouble, trouble]
        assert store.append(ORDER, 0, b"mine", HEADER) is None
        assert len(wire.sent) == 3
        assert len({sent.body["ClientRequestToken"] for sent in wire.sent}) == 1

    def test_a_read_is_answered_by_the_next_attempt(self, store: DynamoDBStorage, wire: Wire) -> None:
        store.append(ORDER, 0, b"mine")
        wire.trouble = [THROTTLED]
        assert store.tail(ORDER) == (0, b"mine")

    def test_a_condition_that_fails_is_an_answer_and_is_not_tried_again(
        self, store: DynamoDBStorage, wire: Wire
    ) -> None:
        store.append(ORDER, 0, b"first", HEADER)
        wire.take()
        assert store.append(ORDER, 0, b"second") == b"first"
        assert store.append(ORDER, 0, b"second", HEADER) == b"first"
        assert wire.take() == ["PutItem", "TransactWriteItems"]


class TestATokenOfATransaction:
    def test_is_another_one_for_each_call_even_with_the_same_bytes(self, store: DynamoDBStorage, wire: Wire) -> None:
        """With the same one AWS would say for ten minutes that the record is there, and it has been purged."""
        for _ in range(2):
            assert store.append(ORDER, 0, b"imported", HEADER) is None
            assert store.purge(ORDER, 0) is True
        tokens = [sent.body["ClientRequestToken"] for sent in wire.sent if sent.operation == "TransactWriteItems"]
        assert len(tokens) == len(set(tokens)) == 6
        assert all(1 <= len(token) <= 36 for token in tokens)


class TestTheTimeLimit:
    def test_throttling_is_waited_out_within_it_and_then_handed_over(
        self, store: DynamoDBStorage, wire: Wire, clock: VirtualClock
    ) -> None:
        wire.trouble = [THROTTLED] * 1_000
        begun = clock.monotonic()
        with pytest.raises(StorageUnavailable, match=r"is throttled.*Nothing is lost"):
            store.append(ORDER, 0, b"mine")
        assert 20 < clock.monotonic() - begun <= 30, "half of the 60 s: the other half is for an attempt that hangs"
        assert 20 < len(wire.sent) < 120
        wire.trouble.clear()
        assert store.append(ORDER, 0, b"mine") is None

    def test_is_the_engines_margin_if_nothing_else_is_said(self) -> None:
        assert DynamoDBStorage("flux")._requests.call_timeout == MARGIN

    def test_an_attempt_ends_in_half_of_it(self, open_store: Callable[..., DynamoDBStorage]) -> None:
        config = open_store(call_timeout=4.0).client.meta.config
        assert config.connect_timeout + config.read_timeout <= 2.0
        assert config.retries["total_max_attempts"] == 1, "the SDK's own retries know no limit of time"

    def test_holds_where_nobody_answers(self, moto: object) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            store = DynamoDBStorage(
                "flux", endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", call_timeout=0.2
            )  # fmt: skip
            with pytest.raises(StorageUnavailable, match=r"did not answer in time.*AWS_ENDPOINT_URL_DYNAMODB"):
                store.append(ORDER, 0, b"mine")
            store.close()

    def test_holds_where_nobody_listens(self, moto: object) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        store = DynamoDBStorage("flux", endpoint=f"http://127.0.0.1:{port}", call_timeout=0.2)
        with pytest.raises(StorageUnavailable, match="did not answer"):
            store.tail(ORDER)
        store.close()


class TestWhatNeedsSomebody:
    def test_a_missing_table_is_named_with_the_setting_and_the_call_that_makes_it(
        self, open_store: Callable[..., DynamoDBStorage]
    ) -> None:
        store = open_store("nowhere")
        with pytest.raises(StorageUnavailable, match=r"'nowhere'.*eu-central-1.*FLUX_TABLE and AWS_REGION.*ensure\(\)"):
            store.append(ORDER, 0, b"mine")

    @pytest.mark.parametrize(
        ("code", "message", "advice"),
        [
            ("UnrecognizedClientException", "The security token is invalid", "aws configure.*aws sso login"),
            ("ExpiredTokenException", "The security token has expired", "aws configure.*aws sso login"),
            (
                "AccessDeniedException",
                "not authorized to perform: dynamodb:PutItem",
                "docs/stores-dynamodb.md.*not authorized to perform: dynamodb:PutItem",
            ),
            ("ValidationException", "The table does not have the specified index: GSI2", "lacks an index.*Deploy"),
            ("KMSAccessDeniedException", "the key is disabled", "refused the call or failed.*the key is disabled"),
        ],
    )
    def test_an_error_says_what_to_do_and_what_aws_said(
        self, store: DynamoDBStorage, wire: Wire, code: str, message: str, advice: str
    ) -> None:
        wire.trouble = [refusal(code, message)]
        with pytest.raises(StorageUnavailable, match=f"(?s){store.table}.*{advice}"):
            store.append(ORDER, 0, b"mine")
        assert len(wire.sent) == 1, "what does not pass by itself is not tried again"

    def test_no_credentials(self, store: DynamoDBStorage, moto: object, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        other = DynamoDBStorage(store.table, endpoint=store._requests.endpoint)
        with pytest.raises(StorageUnavailable, match=r"no valid credentials.*aws configure"):
            other.tail(ORDER)
        other.close()

    def test_no_region(self, moto: object, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_REGION")
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        with pytest.raises(StorageUnavailable, match=r"no region is set. Set AWS_REGION, or pass region="):
            DynamoDBStorage("flux").tail(ORDER)

    def test_an_endpoint_that_is_no_url(self, moto: object, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(DefinitionError, match=r"'localhost:8000' .*is no URL, such as http://"):
            DynamoDBStorage("flux", endpoint="localhost:8000").tail(ORDER)

    def test_no_boto3(self, moto: object, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "boto3", None)
        with pytest.raises(StorageUnavailable, match=r"pip install '\.\[aws\]' in the checkout"):
            DynamoDBStorage("flux").tail(ORDER)

    def test_a_table_of_somebody_else(self, store: DynamoDBStorage, open_store: Callable[..., DynamoDBStorage]) -> None:
        store.client.create_table(
            TableName="a-table-of-theirs",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        theirs = open_store("a-table-of-theirs")
        for call in (lambda: theirs.append(ORDER, 0, b"mine"), lambda: theirs.read(ORDER)):
            with pytest.raises(
                StorageUnavailable, match=r"'a-table-of-theirs'.*not a table of Flux.*FLUX_TABLE.*ensure\(\)"
            ):
                call()
        with pytest.raises(StorageUnavailable, match=r"'a-table-of-theirs'.*lacks an index"):
            theirs.due(1, 1)

    def test_a_closed_store_says_so(self, store: DynamoDBStorage) -> None:
        store.close()
        with pytest.raises(StorageUnavailable, match="was closed"):
            store.append(ORDER, 0, b"mine")


class TestWhatIsTooLarge:
    def test_is_refused_before_it_is_sent(self, store: DynamoDBStorage, wire: Wire) -> None:
        too_much = bytes(400 * 1024)
        with pytest.raises(PayloadTooLarge, match=r"Record 3 of workflow 'order', id '1'.*400 KB.*payloads="):
            store.append(ORDER, 3, too_much)
        with pytest.raises(PayloadTooLarge, match="The signal 'go' of workflow 'order'"):
            store.put_mail(ORDER, Mail("go", "m1", NOW, too_much))
        with pytest.raises(PayloadTooLarge, match="The snapshot after record 3"):
            store.put_snapshot(ORDER, 3, too_much)
        assert wire.sent == []

    def test_the_limit_counts_keys_and_names_of_attributes(self, store: DynamoDBStorage, wire: Wire) -> None:
        wire.trouble = [Answer(200, {})]  # moto's own limit is lower than AWS's
        keys = len("PK") + len("I#acme#order#1") + len("SK") + len("L#0000000000") + len("r")
        store.append(ORDER, 0, bytes(400 * 1024 - keys))
        with pytest.raises(PayloadTooLarge):
            store.append(ORDER, 0, bytes(400 * 1024 - keys + 1))
        assert len(wire.sent) == 1

    def test_four_hundred_thousand_bytes_fit(self, store: DynamoDBStorage) -> None:
        record = bytes(400_000)
        assert store.append(ORDER, 0, record) is None
        assert store.append(ORDER, 0, b"other") == record
        assert store.read(ORDER) == [record]

    def test_aws_may_find_it_first(self, store: DynamoDBStorage, wire: Wire) -> None:
        wire.trouble = [refusal("ValidationException", "Item size has exceeded the maximum allowed size")]
        with pytest.raises(PayloadTooLarge, match="Item size has exceeded"):
            store.append(ORDER, 0, b"x")


class TestAnImitationOfDynamoDB:
    def test_that_does_not_tell_what_it_found_is_asked(self, store: DynamoDBStorage, wire: Wire) -> None:
        store.append(ORDER, 0, b"a-table-of-theirs")
        store.put_mail(ORDER, Mail("go", "m1", NOW, b"a-table-of-theirs"))
        wire.take()
        wire.trouble = [refusal("ConditionalCheckFailedException")]
        assert store.append(ORDER, 0, b"mine") == b"a-table-of-theirs"
        wire.trouble = [refusal("ConditionalCheckFailedException")]
        assert store.put_mail(ORDER, Mail("go", "m1", NOW, b"mine")) == Mail("go", "m1", NOW, b"a-table-of-theirs")
        assert wire.take() == ["PutItem", "GetItem", "PutItem", "GetItem"]

    def test_that_takes_back_what_it_found_gets_the_record_again(self, store: DynamoDBStorage, wire: Wire) -> None:
        """Purged between the condition and the look."""
        wire.trouble = [refusal("ConditionalCheckFailedException")]
        assert store.append(ORDER, 0, b"mine") is None
        wire.trouble = [refusal("ConditionalCheckFailedException")]
        assert store.put_mail(ORDER, Mail("go", "m1", NOW, b"mine")) is None
        assert store.read(ORDER) == [b"mine"]
