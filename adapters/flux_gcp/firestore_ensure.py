"""Creating what a `FirestoreStorage` needs, for development; production gets it from `infra/`, from the same list.

It must not change or remove what is there. Building an index takes minutes even over nothing, so all are begun before
the first is waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.api_core.exceptions import AlreadyExists, GoogleAPICallError, NotFound
from google.cloud.firestore_admin_v1.services.firestore_admin import FirestoreAdminClient
from google.cloud.firestore_admin_v1.types import Database, Field, Index

from flux_core.errors import StorageUnavailable
from flux_gcp.firestore_faults import translate
from flux_gcp.firestore_indexes import definitions

if TYPE_CHECKING:
    from google.api_core.operation import Operation
    from google.auth.credentials import Credentials

    from flux_gcp.firestore_indexes import FieldOverride
    from flux_gcp.firestore_indexes import Index as Wanted
    from flux_gcp.settings import FirestoreSettings

_PATIENCE: Final = 1800.0
"""Seconds that building may take."""


def admin_client(credentials: Credentials | None) -> FirestoreAdminClient:
    """Google's client for administrators."""
    return FirestoreAdminClient(credentials=credentials)


def ensure(admin: FirestoreAdminClient, database: str, settings: FirestoreSettings, location: str | None) -> None:
    """Create what is absent, and wait until it is there. `database`: its full name."""
    try:
        _ensure_database(admin, database, location)
        wanted = definitions(settings.prefix)
        running = [
            operation
            for operation in (
                *(_begin_index(admin, database, index) for index in wanted["indexes"]),
                *(_begin_override(admin, database, override) for override in wanted["fieldOverrides"]),
            )
            if operation is not None
        ]
        for operation in running:
            operation.result(timeout=_PATIENCE)
    except GoogleAPICallError as error:
        code = error.grpc_status_code
        raise translate("UNKNOWN" if code is None else code.name, error.message, settings, database) from error


def _ensure_database(admin: FirestoreAdminClient, database: str, location: str | None) -> None:
    try:
        found = admin.get_database(name=database)
    except NotFound:
        if location is None:
            raise
    else:
        if found.type_ != Database.DatabaseType.FIRESTORE_NATIVE:
            raise StorageUnavailable(f"{database} is a database in Datastore mode. Flux needs one in native mode.")
        return
    project, _, name = database.rpartition("/databases/")
    made = Database(location_id=location, type_=Database.DatabaseType.FIRESTORE_NATIVE)
    admin.create_database(parent=project, database=made, database_id=name).result(timeout=_PATIENCE)


def _begin_index(admin: FirestoreAdminClient, database: str, index: Wanted) -> Operation | None:
    parent = f"{database}/collectionGroups/{index['collectionGroup']}"
    fields = [Index.IndexField(field_path=field["fieldPath"], order=field["order"]) for field in index["fields"]]
    try:
        return admin.create_index(parent=parent, index=Index(query_scope=index["queryScope"], fields=fields))
    except AlreadyExists:
        return None


def _begin_override(admin: FirestoreAdminClient, database: str, override: FieldOverride) -> Operation | None:
    name = f"{database}/collectionGroups/{override['collectionGroup']}/fields/{override['fieldPath']}"
    expires = override.get("ttl", False)
    there = admin.get_field(name=name)
    config = there.index_config
    exempt = not config.indexes and not config.uses_ancestor_config
    if exempt and (not expires or there.ttl_config.state != Field.TtlConfig.State.STATE_UNSPECIFIED):
        return None
    field = Field(name=name, index_config=Field.IndexConfig(indexes=[]))
    paths = ["index_config"]
    if expires:
        field.ttl_config = Field.TtlConfig()
        paths.append("ttl_config")
    return admin.update_field(request={"field": field, "update_mask": {"paths": paths}})
