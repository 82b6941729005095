"""The table itself: what it is made of, made or checked for development. It must not touch a workflow's data.

`DESCRIPTION` is what a deployment has to create; infrastructure code is held against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flux_aws.dynamodb_faults import translate
from flux_aws.dynamodb_items import DUE_INDEX, EXPIRES, LIST_INDEX
from flux_aws.faults import code_of
from flux_aws.settings import TABLE
from flux_core.errors import DefinitionError, StorageUnavailable

if TYPE_CHECKING:
    from typing import Any

    from flux_core.ports import Clock

DESCRIPTION: Final[dict[str, Any]] = {
    "AttributeDefinitions": [
        {"AttributeName": "PK", "AttributeType": "S"},
        {"AttributeName": "SK", "AttributeType": "S"},
        {"AttributeName": "LP", "AttributeType": "S"},
        {"AttributeName": "LS", "AttributeType": "S"},
        {"AttributeName": "DP", "AttributeType": "S"},
        {"AttributeName": "due", "AttributeType": "N"},
    ],
    "KeySchema": [{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": LIST_INDEX,
            "KeySchema": [{"AttributeName": "LP", "KeyType": "HASH"}, {"AttributeName": "LS", "KeyType": "RANGE"}],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["st", "w", "c", "u", "ep", "seq", "due"]},
        },
        {
            "IndexName": DUE_INDEX,
            "KeySchema": [{"AttributeName": "DP", "KeyType": "HASH"}, {"AttributeName": "due", "KeyType": "RANGE"}],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        },
    ],
    "BillingMode": "PAY_PER_REQUEST",
}
"""`create_table` of boto3, without the name. Beside it: TTL on `expires_at`, and point-in-time recovery."""
LONGEST_MAKING: Final = 120.0
"""Seconds that a new table may take."""
_LOOK_EVERY: Final = 1.0


def ensure(client: Any, table: str, clock: Clock) -> None:
    """Make `table` with its indexes, TTL and point-in-time recovery where they are absent; wait until it is there.

    Raises `DefinitionError` for a table of another form, and the kit's errors for AWS's.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = _found(client, table) or _make(client, table)
        _check(found, table)
        _await(client, table, clock, found)
        _expire(client, table)
        _recoverable(client, table, clock)
    except (BotoCoreError, ClientError) as error:
        raise translate(error, table, client.meta.region_name) from error


def _found(client: Any, table: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.describe_table(TableName=table)["Table"]
    except client.exceptions.ResourceNotFoundException:
        return None
    return found


def _make(client: Any, table: str) -> dict[str, Any]:
    try:
        made: dict[str, Any] = client.create_table(TableName=table, **DESCRIPTION)["TableDescription"]
    except client.exceptions.ResourceInUseException:  # another process was quicker
        made = client.describe_table(TableName=table)["Table"]
    return made


def misfits(found: dict[str, Any]) -> list[str]:
    """What of a table, as `describe_table` tells it, is not as Flux needs it."""
    indexes = {index["IndexName"]: index for index in found.get("GlobalSecondaryIndexes", ())}
    wrong = [] if _keys(found) == _keys(DESCRIPTION) else ["its primary key"]
    for index in DESCRIPTION["GlobalSecondaryIndexes"]:
        there = indexes.get(index["IndexName"])
        if there is None or _keys(there) != _keys(index) or not _projected(index) <= _projected(there):
            wrong.append(f"the index {index['IndexName']}")
    return wrong


def _check(found: dict[str, Any], table: str) -> None:
    wrong = misfits(found)
    if wrong:
        raise DefinitionError(
            f"The DynamoDB table {table!r} exists, but is not what Flux needs (wrong: {', '.join(wrong)}); nothing in "
            f"it was changed. Set {TABLE} to a table of Flux's own, or to a name that is free and run ensure() again."
        )


def _keys(part: dict[str, Any]) -> set[tuple[str, str]]:
    return {(key["AttributeName"], key["KeyType"]) for key in part["KeySchema"]}


def _projected(index: dict[str, Any]) -> set[str]:
    projection = index["Projection"]
    if projection["ProjectionType"] == "ALL":
        return {"st", "w", "c", "u", "ep", "seq", "due"}
    return set(projection.get("NonKeyAttributes", ()))


def _await(client: Any, table: str, clock: Clock, found: dict[str, Any]) -> None:
    give_up_at = clock.monotonic() + LONGEST_MAKING
    while found["TableStatus"] == "CREATING":
        if clock.monotonic() > give_up_at:
            raise StorageUnavailable(
                f"The DynamoDB table {table!r} was still being made after {LONGEST_MAKING:.0f} s. Call ensure() again."
            )
        clock.sleep(_LOOK_EVERY)
        found = client.describe_table(TableName=table)["Table"]


def _expire(client: Any, table: str) -> None:
    told = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    if told["TimeToLiveStatus"] in {"ENABLED", "ENABLING"} and told.get("AttributeName", EXPIRES) == EXPIRES:
        return
    try:
        client.update_time_to_live(
            TableName=table, TimeToLiveSpecification={"Enabled": True, "AttributeName": EXPIRES}
        )  # fmt: skip
    except client.exceptions.ClientError as error:
        if code_of(error) != "ValidationException":  # another process has just done it
            raise


def _recoverable(client: Any, table: str, clock: Clock) -> None:
    give_up_at = clock.monotonic() + LONGEST_MAKING
    while True:
        told = client.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
        if told["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED":
            return
        try:
            client.update_continuous_backups(
                TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
            )  # fmt: skip
        except client.exceptions.ContinuousBackupsUnavailableException:  # of a table that has only just been made
            if clock.monotonic() > give_up_at:
                raise
            clock.sleep(_LOOK_EVERY)
        else:
            return
