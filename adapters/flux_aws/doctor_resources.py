"""What Flux counts on of a table and a queue: indexes, expiry, recovery, redelivery. It must not use them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flux_aws.doctor_services import Refused
from flux_aws.dynamodb_table import misfits
from flux_core.doctor import FAILURE, OK, UNKNOWN, WARNING, Finding
from flux_core.machine import MOST_DEATHS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_aws.doctor_services import Services


def of_table(table: str, services: Services) -> Iterator[Finding]:
    """Its indexes, and what keeps it safe."""
    subject = "table"
    try:
        found = services.ask("dynamodb", "describe_table", TableName=table)["Table"]
        expiry = services.ask("dynamodb", "describe_time_to_live", TableName=table)["TimeToLiveDescription"]
        backups = services.ask("dynamodb", "describe_continuous_backups", TableName=table)
    except Refused as error:
        yield Finding(subject, UNKNOWN, str(error))
        return
    wrong = misfits(found)
    making = [one["IndexName"] for one in found.get("GlobalSecondaryIndexes", ()) if one["IndexStatus"] != "ACTIVE"]
    if wrong:
        yield Finding("indexes", FAILURE, f"{table} is not what Flux needs (wrong: {', '.join(wrong)}): deploy it anew")
    elif making:
        yield Finding("indexes", FAILURE, f"{', '.join(making)} of {table} is still being made: wait until it is there")
    else:
        yield Finding("indexes", OK, f"those of {table} are there")
    if expiry["TimeToLiveStatus"] not in {"ENABLED", "ENABLING"}:
        yield Finding(
            "expiry", WARNING, f"{table} keeps marks of deleted instances for ever: turn on TTL of expires_at"
        )
    recovery = backups["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    if recovery.get("PointInTimeRecoveryStatus") != "ENABLED":
        yield Finding("recovery", WARNING, f"{table} cannot be restored to a point in time: turn on its recovery")
    if not found.get("DeletionProtectionEnabled"):
        yield Finding("protection", WARNING, f"{table} can be deleted by one call: turn on its deletion protection")


def of_queue(url: str, services: Services) -> Iterator[Finding]:
    """How often it brings a message, and where those go that nobody could handle."""
    subject = "redelivery"
    try:
        told = services.ask("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=["All"])["Attributes"]
    except Refused as error:
        yield Finding(subject, UNKNOWN, str(error))
        return
    redrive = json.loads(told.get("RedrivePolicy") or "{}")
    if not redrive:
        yield Finding(
            subject,
            WARNING,
            "the queue has no dead-letter queue: a message that cannot be handled comes again for days",
        )
        return
    most = int(redrive["maxReceiveCount"])
    if most <= MOST_DEATHS:
        yield Finding(
            subject, FAILURE,
            f"a message goes to the dead-letter queue after {most} tries, before the engine calls an instance stuck "
            f"(after {MOST_DEATHS} deaths): set maxReceiveCount to 12",
        )  # fmt: skip
    else:
        yield Finding(subject, OK, f"a message is brought up to {most} times")
    yield _dead_letters(str(redrive["deadLetterTargetArn"]), services)


def _dead_letters(arn: str, services: Services) -> Finding:
    subject = "dead letters"
    account, name = arn.split(":")[-2:]
    try:
        url = services.ask("sqs", "get_queue_url", QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        asked = ["ApproximateNumberOfMessages"]
        told = services.ask("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=asked)["Attributes"]
    except Refused as error:
        return Finding(subject, UNKNOWN, str(error))
    count = int(told["ApproximateNumberOfMessages"])
    if not count:
        return Finding(subject, OK, "none")
    return Finding(
        subject, WARNING,
        f"{count} in {name}: look at the worker's log for why, then bring them back "
        f"(aws sqs start-message-move-task --source-arn {arn})",
    )  # fmt: skip
