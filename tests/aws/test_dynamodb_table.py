"""The table, the settings, and a store that costs nothing until it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from flux_aws import DynamoDBStorage
from flux_aws.dynamodb_items import GROUPS, group
from flux_aws.dynamodb_table import DESCRIPTION
from flux_core import state
from flux_core.errors import DefinitionError
from flux_core.ports import InstanceRef
from tests.aws.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.services.moto import Moto

ORDER = InstanceRef("acme", "order", "1")


@pytest.fixture
def client(moto: Moto) -> Any:
    return boto3.client("dynamodb", endpoint_url=moto.endpoint)


class TestEnsure:
    def test_makes_the_table_with_indexes_ttl_and_recovery(
        self, client: Any, open_store: Callable[..., DynamoDBStorage]
    ) -> None:
        store = open_store("made")
        store.ensure()
        table = client.describe_table(TableName="made")["Table"]
        assert table["KeySchema"] == DESCRIPTION["KeySchema"]
        assert {index["IndexName"] for index in table["GlobalSecondaryIndexes"]} == {"GSI1", "GSI2"}
        assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        expiry = client.describe_time_to_live(TableName="made")["TimeToLiveDescription"]
        assert expiry == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}
        backups = client.describe_continuous_backups(TableName="made")["ContinuousBackupsDescription"]
        assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"

    def test_only_looks_at_what_is_there(self, store: DynamoDBStorage) -> None:
        wire = Wire(store)
        store.ensure()
        assert wire.take() == ["DescribeTable", "DescribeTimeToLive", "DescribeContinuousBackups"]

    def test_may_be_called_by_several_at_once(self, open_store: Callable[..., DynamoDBStorage]) -> None:
        stores = [open_store("raced") for _ in range(4)]
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(DynamoDBStorage.ensure, stores)) == [None] * 4
        assert stores[0].append(ORDER, 0, b"start") is None

    def test_refuses_the_table_of_something_else_and_leaves_it(
        self, client: Any, open_store: Callable[..., DynamoDBStorage]
    ) -> None:
        client.create_table(
            TableName="theirs",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        with pytest.raises(DefinitionError, match=r"'theirs'.*primary key, the index GSI1, the index.*FLUX_TABLE"):
            open_store("theirs").ensure()
        assert client.describe_time_to_live(TableName="theirs")["TimeToLiveDescription"]["TimeToLiveStatus"] == (
            "DISABLED"
        )

    def test_takes_an_index_that_shows_more(self, client: Any, open_store: Callable[..., DynamoDBStorage]) -> None:
        wider = [{**index, "Projection": {"ProjectionType": "ALL"}} for index in DESCRIPTION["GlobalSecondaryIndexes"]]
        client.create_table(TableName="wide", **{**DESCRIPTION, "GlobalSecondaryIndexes": wider})
        open_store("wide").ensure()

    def test_refuses_an_index_that_shows_too_little(
        self, client: Any, open_store: Callable[..., DynamoDBStorage]
    ) -> None:
        bare = [
            {**index, "Projection": {"ProjectionType": "KEYS_ONLY"}} for index in DESCRIPTION["GlobalSecondaryIndexes"]
        ]
        client.create_table(TableName="bare", **{**DESCRIPTION, "GlobalSecondaryIndexes": bare})
        with pytest.raises(DefinitionError, match=r"is not what Flux needs \(wrong: the index GSI1\)"):
            open_store("bare").ensure()


class TestSettings:
    def test_the_environment_names_the_table_and_the_region(self, moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLUX_TABLE", "from-the-environment")
        monkeypatch.setenv("AWS_REGION", "eu-west-3")
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", moto.endpoint)
        store = DynamoDBStorage.from_env()
        assert store.table == "from-the-environment"
        assert store.client.meta.region_name == "eu-west-3"
        store.ensure()
        assert store.tail(ORDER) is None
        store.close()

    def test_a_table_that_is_not_set_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("FLUX_TABLE", raising=False)
        with pytest.raises(DefinitionError, match="FLUX_TABLE is not set: it has to hold the name of the DynamoDB"):
            DynamoDBStorage.from_env()

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"table": ""}, "name or ARN of a table, not ''"),
            ({"table": "my table"}, "name or ARN of a table, not 'my table'"),
            ({"table": "t", "shards": 0}, "shards must be a whole number from 1"),
            ({"table": "t", "shards": True}, "shards must be a whole number from 1"),
            ({"table": "t", "call_timeout": 0}, "call_timeout must be a positive number of seconds"),
        ],
    )
    def test_arguments_that_cannot_work_are_refused_at_once(self, arguments: dict[str, Any], says: str) -> None:
        with pytest.raises(DefinitionError, match=says):
            DynamoDBStorage(**arguments)

    def test_a_session_of_ones_own_is_used(self, moto: Moto, open_store: Callable[..., DynamoDBStorage]) -> None:
        session = boto3.session.Session(region_name="ap-south-1")
        store = DynamoDBStorage("flux", session=session, region="ap-south-1", endpoint=moto.endpoint)
        assert store.client.meta.region_name == "ap-south-1"
        store.close()


class TestStartUp:
    def test_importing_and_making_a_store_does_not_load_the_sdk(self) -> None:
        code = "import sys, flux_aws; flux_aws.DynamoDBStorage('flux'); print(*sys.modules)"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        loaded = {name.partition(".")[0] for name in run.stdout.split()}
        assert loaded & {"boto3", "botocore", "urllib3", "logging", "asyncio", "json", "uuid"} == set()

    def test_the_client_is_made_once_for_all_threads_and_calls(self, store: DynamoDBStorage) -> None:
        made = store.client
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(lambda _: store.tail(ORDER), range(8))) == [None] * 8
        assert store.client is made

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_a_child_of_a_fork_makes_its_own(self, store: DynamoDBStorage) -> None:
        store.append(ORDER, 0, b"parent")
        made = store.client
        child = os.fork()
        if child == 0:
            code = 1
            try:
                own = store.append(ORDER, 1, b"child") is None and store.client is not made
                code = 0 if own else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.read(ORDER) == [b"parent", b"child"]
        assert store.client is made


def test_every_status_is_listed_in_a_group() -> None:
    assert {group(status) for status in state.STATUSES} == set(GROUPS)
