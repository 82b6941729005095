"""The indexes that `FirestoreStorage` needs, in one place: `ensure()`, `infra/` and people take them from here.

`python -m flux_gcp.firestore_indexes` prints them in the form of a `firestore.indexes.json`, which Firebase's command
line and Terraform (`jsondecode`) read. It must not import anything of Google's.

All fields are exempt from the automatic indexes: headers would otherwise fill six sequential ones, and what is in a
log or a mailbox is found by name. An index holds only documents that have all of its fields, so one on `due` is sparse.
"""

from __future__ import annotations

from typing import Final, TypedDict

from flux_gcp.firestore_layout import collections
from flux_gcp.settings import FirestoreSettings

UP: Final = "ASCENDING"
DOWN: Final = "DESCENDING"
EXPIRES: Final = "expire_at"
"""The field of a tombstone by which Firestore removes it, a day after a purge. Nothing else has it."""

LISTS: Final = (
    (("shard", UP), ("due", UP)),
    (("tenant", UP), ("shard", UP), ("created_at", DOWN), ("id", DOWN), ("workflow", DOWN)),
    (("tenant", UP), ("workflow", UP), ("shard", UP), ("created_at", DOWN), ("id", DOWN)),
    (("tenant", UP), ("status", UP), ("shard", UP), ("created_at", DOWN), ("id", DOWN), ("workflow", DOWN)),
    (("tenant", UP), ("workflow", UP), ("status", UP), ("shard", UP), ("created_at", DOWN), ("id", DOWN)),
)
"""What is due; a tenant's instances; those of one workflow; of some statuses; of one workflow and some statuses."""


class IndexField(TypedDict):
    """One field of an index."""

    fieldPath: str
    order: str


class Index(TypedDict):
    """A composite index over one collection."""

    collectionGroup: str
    queryScope: str
    fields: list[IndexField]


class FieldOverride(TypedDict, total=False):
    """What differs from the automatic indexes."""

    collectionGroup: str
    fieldPath: str
    ttl: bool
    indexes: list[IndexField]


class Definitions(TypedDict):
    """What a `firestore.indexes.json` holds."""

    indexes: list[Index]
    fieldOverrides: list[FieldOverride]


def definitions(prefix: str = FirestoreSettings().prefix) -> Definitions:
    """All indexes and exemptions of a store whose collections begin with `prefix`."""
    inst, log, *_ = names = collections(prefix)
    exempt: list[FieldOverride] = [{"collectionGroup": name, "fieldPath": "*", "indexes": []} for name in names]
    return {
        "indexes": [
            {
                "collectionGroup": inst,
                "queryScope": "COLLECTION",
                "fields": [{"fieldPath": path, "order": order} for path, order in fields],
            }
            for fields in LISTS
        ],
        "fieldOverrides": [*exempt, {"collectionGroup": log, "fieldPath": EXPIRES, "ttl": True, "indexes": []}],
    }


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(definitions(*sys.argv[1:2]), indent=2))  # noqa: T201 -- it is what the command is for
