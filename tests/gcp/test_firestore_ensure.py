"""`ensure()` creates what the list of indexes says, and nothing that is there already.

There is no emulator of Firestore's administration: a server of our own answers Google's client in its protocol.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from google.cloud.firestore_admin_v1.services.firestore_admin import FirestoreAdminClient
from google.cloud.firestore_admin_v1.services.firestore_admin.transports import FirestoreAdminGrpcTransport
from google.cloud.firestore_admin_v1.types import (
    CreateDatabaseRequest,
    CreateIndexRequest,
    Database,
    Field,
    GetDatabaseRequest,
    GetFieldRequest,
    Index,
    UpdateFieldRequest,
)
from google.longrunning.operations_pb2 import Operation

from flux_core.errors import StorageUnavailable
from flux_gcp import FirestoreSettings
from flux_gcp.firestore_ensure import ensure
from flux_gcp.firestore_indexes import definitions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any  # messages are made at run time

DATABASE = "projects/p/databases/flux"
SETTINGS = FirestoreSettings("p", "flux")


class Administration(grpc.GenericRpcHandler):
    """Databases, indexes and field settings of one project."""

    def __init__(self) -> None:
        self.databases: dict[str, Any] = {}
        self.indexes: list[tuple[str, Any]] = []
        self.fields: dict[str, Any] = {}
        self.changes = 0
        self._server = grpc.server(ThreadPoolExecutor(4), handlers=[self])
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.client = FirestoreAdminClient(transport=FirestoreAdminGrpcTransport(channel=channel))

    def close(self) -> None:
        self.client.transport.close()
        self._server.stop(None).wait()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = getattr(self, str(handler_call_details.method).rpartition("/")[2])
        return grpc.unary_unary_rpc_method_handler(method)

    def GetDatabase(self, request: bytes, context: grpc.ServicerContext) -> bytes:  # noqa: N802 -- Google's names
        name = GetDatabaseRequest.deserialize(request).name
        if name not in self.databases:
            context.abort(grpc.StatusCode.NOT_FOUND, f"The database {name} does not exist")
        return Database.serialize(self.databases[name])

    def CreateDatabase(self, request: bytes, context: grpc.ServicerContext) -> bytes:  # noqa: N802
        asked = CreateDatabaseRequest.deserialize(request)
        self.databases[f"{asked.parent}/databases/{asked.database_id}"] = asked.database
        return self._done(asked.database)

    def CreateIndex(self, request: bytes, context: grpc.ServicerContext) -> bytes:  # noqa: N802
        asked = CreateIndexRequest.deserialize(request)
        if (asked.parent, asked.index) in self.indexes:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, "index already exists")
        self.indexes.append((asked.parent, asked.index))
        return self._done(asked.index)

    def GetField(self, request: bytes, context: grpc.ServicerContext) -> bytes:  # noqa: N802
        name = GetFieldRequest.deserialize(request).name
        automatic = Field(name=name, index_config=Field.IndexConfig(uses_ancestor_config=True))
        return Field.serialize(self.fields.get(name, automatic))

    def UpdateField(self, request: bytes, context: grpc.ServicerContext) -> bytes:  # noqa: N802
        asked = UpdateFieldRequest.deserialize(request)
        field = Field(name=asked.field.name, index_config=asked.field.index_config)
        if "ttl_config" in asked.update_mask.paths:
            field.ttl_config = Field.TtlConfig(state=Field.TtlConfig.State.CREATING)
        self.fields[field.name] = field
        return self._done(field)

    def _done(self, result: Database | Index | Field) -> bytes:
        self.changes += 1
        operation = Operation(name=f"operations/{self.changes}", done=True)
        operation.response.Pack(type(result).pb(result))
        return operation.SerializeToString()


@pytest.fixture
def administration() -> Iterator[Administration]:
    served = Administration()
    yield served
    served.close()


@pytest.fixture
def with_database(administration: Administration) -> Administration:
    administration.databases[DATABASE] = Database(type_=Database.DatabaseType.FIRESTORE_NATIVE)
    return administration


def test_it_creates_every_index_of_the_list(with_database: Administration) -> None:
    ensure(with_database.client, DATABASE, SETTINGS, None)
    made = [
        {
            "collectionGroup": parent.rpartition("/")[2],
            "queryScope": Index.QueryScope(index.query_scope).name,
            "fields": [
                {"fieldPath": f.field_path, "order": Index.IndexField.Order(f.order).name} for f in index.fields
            ],
        }
        for parent, index in with_database.indexes
    ]
    assert made == definitions()["indexes"]


def test_it_exempts_every_field_and_lets_tombstones_expire(with_database: Administration) -> None:
    ensure(with_database.client, DATABASE, SETTINGS, None)
    prefix = f"{DATABASE}/collectionGroups/flux_"
    wanted = {f"{prefix}{name}/fields/*" for name in ("inst", "log", "mail", "snap")}
    assert set(with_database.fields) == {*wanted, f"{prefix}log/fields/expire_at"}
    for name, field in with_database.fields.items():
        assert not field.index_config.indexes
        assert ("ttl_config" in field) == name.endswith("expire_at")


def test_again_it_changes_nothing(with_database: Administration) -> None:
    ensure(with_database.client, DATABASE, SETTINGS, None)
    before = with_database.changes
    ensure(with_database.client, DATABASE, SETTINGS, None)
    assert with_database.changes == before


def test_it_completes_what_was_begun(with_database: Administration) -> None:
    ensure(with_database.client, DATABASE, SETTINGS, None)
    del with_database.indexes[2]
    with_database.fields.popitem()
    before = with_database.changes
    ensure(with_database.client, DATABASE, SETTINGS, None)
    assert with_database.changes == before + 2


def test_it_creates_the_database_where_it_is_told_to(administration: Administration) -> None:
    ensure(administration.client, DATABASE, SETTINGS, "eur3")
    made = administration.databases[DATABASE]
    assert (made.location_id, made.type_) == ("eur3", Database.DatabaseType.FIRESTORE_NATIVE)
    assert len(administration.indexes) == len(definitions()["indexes"])


def test_without_a_place_it_creates_none_and_says_how(administration: Administration) -> None:
    with pytest.raises(StorageUnavailable, match=r"does not exist.*--database='flux'.*ensure\(location="):
        ensure(administration.client, DATABASE, SETTINGS, None)
    assert administration.changes == 0


def test_a_database_in_datastore_mode_is_refused(administration: Administration) -> None:
    administration.databases[DATABASE] = Database(type_=Database.DatabaseType.DATASTORE_MODE)
    with pytest.raises(StorageUnavailable, match="native mode"):
        ensure(administration.client, DATABASE, SETTINGS, None)
    assert administration.changes == 0
