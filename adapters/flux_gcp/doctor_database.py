"""What Flux counts on of a Firestore database: mode, indexes, exemptions, expiry, recovery. It must not read data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flux_core.doctor import FAILURE, OK, UNKNOWN, WARNING, Finding
from flux_gcp.doctor_services import FIRESTORE, Absent, Refused
from flux_gcp.firestore_indexes import EXPIRES, definitions
from flux_gcp.settings import DATABASE, PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from flux_gcp.doctor_services import Services

_NAME: Final = "__name__"
_LISTING: Final = "datastore.indexes.list"
_OVERRIDDEN: Final = "indexConfig.usesAncestorConfig=false OR ttlConfig:*"


def of_database(project: str, database: str, prefix: str, services: Services) -> Iterator[Finding]:
    """How it is kept safe, and whether what `firestore_indexes` names is there. `prefix`: of the collections."""
    name = f"projects/{project}/databases/{database}"
    try:
        told = services.ask(FIRESTORE, f"v1/{name}", "datastore.databases.getMetadata")
    except Absent:
        yield Finding("database", FAILURE, f"there is no {name}: look at {PROJECT} and {DATABASE}, or deploy it")
        return
    except Refused as error:
        yield Finding("database", UNKNOWN, str(error))
    else:
        yield from _safety(told, f"gcloud firestore databases update --project={project} --database='{database}'")
    try:
        yield _indexes(name, prefix, services)
        yield from _fields(name, prefix, services)
    except Refused as error:
        yield Finding("indexes", UNKNOWN, str(error))


def _safety(told: dict[str, Any], update: str) -> Iterator[Finding]:
    if told.get("type") != "FIRESTORE_NATIVE":
        said = (
            f"it is in {told.get('type')}, and Flux needs one in native mode: make another, and name it with {DATABASE}"
        )
        yield Finding("database", FAILURE, said)
        return
    yield Finding("database", OK, f"in native mode, at {told.get('locationId')}")
    if told.get("pointInTimeRecoveryEnablement") != "POINT_IN_TIME_RECOVERY_ENABLED":
        yield Finding("recovery", WARNING, f"it cannot be restored to a point in time: {update} --enable-pitr")
    if told.get("deleteProtectionState") != "DELETE_PROTECTION_ENABLED":
        yield Finding("protection", WARNING, f"it can be deleted by one call: {update} --delete-protection")


def _indexes(name: str, prefix: str, services: Services) -> Finding:
    subject = "indexes"
    listed = services.all(FIRESTORE, f"v1/{name}/collectionGroups/-/indexes", "indexes", _LISTING)
    there = {_shape(_group(one), one): one.get("state") for one in listed}
    absent, making, broken = [], [], []
    for wanted in definitions(prefix)["indexes"]:
        shown = f"{wanted['collectionGroup']} ({', '.join(field['fieldPath'] for field in wanted['fields'])})"
        match there.get(_shape(wanted["collectionGroup"], wanted)):
            case "READY":
                pass
            case "CREATING":
                making.append(shown)
            case None:
                absent.append(shown)
            case _:
                broken.append(shown)
    if absent:
        return Finding(subject, FAILURE, f"not there: {'; '.join(absent)}. {_remedy(prefix)}")
    if broken:
        return Finding(subject, FAILURE, f"need repair: {'; '.join(broken)}. Delete them first. {_remedy(prefix)}")
    if making:
        return Finding(subject, FAILURE, f"still being made: {'; '.join(making)}. Wait until they are there")
    return Finding(subject, OK, f"the {len(definitions(prefix)['indexes'])} of {prefix}inst are there")


def _fields(name: str, prefix: str, services: Services) -> Iterator[Finding]:
    listed = services.all(FIRESTORE, f"v1/{name}/collectionGroups/-/fields", "fields", _LISTING, filter=_OVERRIDDEN)
    there = {(_group(one), one["name"].rpartition("/")[2]): one for one in listed}
    overrides = definitions(prefix)["fieldOverrides"]
    groups = [one["collectionGroup"] for one in overrides if one["fieldPath"] == "*"]
    indexed = [group for group in groups if not _is_exempt(there.get((group, "*")))]
    if indexed:
        said = f"every field of {', '.join(indexed)} is indexed: that slows down writes, and is paid for"
        yield Finding("exemptions", WARNING, f"{said}. {_remedy(prefix)}")
    else:
        yield Finding("exemptions", OK, "no field is indexed by itself")
    for one in overrides:
        if one.get("ttl"):
            ttl = there.get((one["collectionGroup"], EXPIRES), {}).get("ttlConfig", {})
            if ttl.get("state") not in {"ACTIVE", "CREATING"}:
                said = (
                    f"marks of deleted instances stay for ever: {EXPIRES} of {one['collectionGroup']} has no TTL policy"
                )
                yield Finding("expiry", WARNING, f"{said}. {_remedy(prefix)}")


def _is_exempt(field: dict[str, Any] | None) -> bool:
    config = {} if field is None else field.get("indexConfig", {})
    return field is not None and not config.get("indexes") and not config.get("usesAncestorConfig")


def _remedy(prefix: str) -> str:
    prints = f"python -m flux_gcp.firestore_indexes {prefix}"
    return f"Deploy what `{prints}` prints, or run FirestoreStorage.from_env().ensure()"


def _group(listed: dict[str, Any]) -> str:
    """The collection group of an index or field: projects/P/databases/D/collectionGroups/G/indexes/I."""
    return str(listed["name"].split("/")[5])


def _shape(group: str, index: Any) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """What makes it another index; the document's name, which Firestore adds at the end, does not."""
    fields = [(field["fieldPath"], field.get("order", "")) for field in index["fields"]]
    if len(fields) > 1 and fields[-1][0] == _NAME and fields[-1][1] == fields[-2][1]:
        fields.pop()
    return group, index["queryScope"], tuple(fields)
