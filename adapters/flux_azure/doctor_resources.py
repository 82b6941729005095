"""What Flux counts on of containers, queues and the timer. It must not change them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from flux_azure.doctor_services import Missing, Refused
from flux_core.doctor import FAILURE, OK, UNKNOWN, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_azure.doctor_services import Services

_HOST_CONTAINER: Final = "azure-webjobs-hosts"
"""Where the Functions host keeps what it knows: `timers/{host}/Host.Functions.{function}/status`, for example."""
_LATE: Final = 600.0
"""Seconds. The platform starts a host for a timer that is due; that takes a minute on a bad day."""
_NEVER: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""The host writes the year 1 for a timer that has not fired yet."""


# --- blobs -------------------------------------------------------------------------------------------------------


def of_container(services: Services, container: str) -> Finding:
    """Whether it is there, is private, and lets index markers go."""
    subject = "container"
    try:
        told = services.blobs(container, restype="container").headers
    except Missing:
        return Finding(
            subject, FAILURE,
            f"the storage account {services.account.name!r} has no container {container!r}: az storage container "
            f"create --name {container} --account-name {services.account.name}",
        )  # fmt: skip
    except Refused as error:
        return Finding(subject, UNKNOWN, str(error))
    if told.get("x-ms-blob-public-access"):
        return Finding(
            subject, FAILURE,
            f"anybody can read {container!r}: az storage container set-permission --public-access off --name "
            f"{container} --account-name {services.account.name}",
        )  # fmt: skip
    if "true" in {told.get("x-ms-has-immutability-policy"), told.get("x-ms-has-legal-hold")}:
        return Finding(
            subject, FAILURE,
            f"{container!r} holds on to every blob, and index markers have to go: take its immutability policy or "
            f"legal hold away",
        )  # fmt: skip
    return Finding(subject, OK, f"{container!r} is there, and private")


def of_deletion(services: Services) -> Finding:
    """Whether a blob that is deleted by mistake can be brought back."""
    subject = "soft delete"
    try:
        told = services.blobs(restype="service", comp="properties")
    except Refused as error:
        return Finding(subject, UNKNOWN, str(error))
    if told.field("DeleteRetentionPolicy", "Enabled") == "true":
        days = told.field("DeleteRetentionPolicy", "Days")
        return Finding(subject, OK, f"a blob that was deleted can be brought back for {days} days")
    return Finding(
        subject, WARNING,
        f"a blob that is deleted by mistake is gone: az storage account blob-service-properties update "
        f"--enable-delete-retention true --delete-retention-days 7 --account-name {services.account.name}",
    )  # fmt: skip


# --- the queue ---------------------------------------------------------------------------------------------------


def of_queue(services: Services, queue: str) -> Iterator[Finding]:
    """Whether it is there, and what the Functions host could not get done."""
    subject = "queue, waiting"
    try:
        yield Finding(subject, OK, f"messages in {queue!r}: about {_count(services, queue)}, those for later included")
    except Missing:
        yield Finding(
            subject, FAILURE,
            f"there is no queue {queue!r}: az storage queue create --name {queue} --account-name "
            f"{services.account.name}; or correct FLUX_QUEUE",
        )  # fmt: skip
    except Refused as error:
        yield Finding(subject, UNKNOWN, str(error))
    yield _poison(services, f"{queue}-poison")


def _poison(services: Services, queue: str) -> Finding:
    subject = "poison queue"
    try:
        count = _count(services, queue)
    except Missing:
        return Finding(subject, OK, "there is none yet: Azure makes it with the first message that fails for good")
    except Refused as error:
        return Finding(subject, UNKNOWN, str(error))
    if not count:
        return Finding(subject, OK, f"{queue!r} is empty")
    return Finding(
        subject, WARNING,
        f"messages in {queue!r}: about {count}. az storage message peek --num-messages 32 --queue-name {queue} "
        f"--account-name {services.account.name} shows them, and the app's log why they failed. Whom a wake was to "
        f"wake, the sweep wakes; any other verb has not been carried out. Then delete them (az storage message clear)",
    )  # fmt: skip


def _count(services: Services, queue: str) -> int:
    return int(services.queues(queue, comp="metadata").headers.get("x-ms-approximate-messages-count", 0))


# --- the timer ---------------------------------------------------------------------------------------------------


def of_timer(services: Services, function: str, schedule: str, now: datetime) -> Finding:
    """Whether the timer of that function fires, by what the Functions host keeps of it. `schedule`: six fields."""
    subject = "timer"
    if not schedule.split(maxsplit=1)[0].isdigit():
        return Finding(
            subject, UNKNOWN, f"{function} fires more than once a minute, and of such a timer Azure keeps no record"
        )
    try:
        told = [services.blobs(f"{_HOST_CONTAINER}/{name}").content for name in _statuses(services, function)]
        known = [(_moment(one["Last"]), _moment(one["Next"])) for one in map(json.loads, told)]
    except Missing:
        known = []
    except Refused as error:
        return Finding(subject, UNKNOWN, str(error))
    except (ValueError, KeyError, TypeError) as error:
        return Finding(subject, UNKNOWN, f"what Azure keeps of {function} cannot be read ({error!r})")
    if not known:
        return Finding(
            subject, FAILURE,
            f"no app has ever run {function} with the storage account {services.account.name!r}: publish the app, or "
            f"correct AzureWebJobsStorage here",
        )  # fmt: skip
    fired, due = max(known)
    last = f"last {_ago(now, fired)} ago" if fired > _NEVER else "never yet"
    late = (now - due).total_seconds()
    if late > _LATE:
        return Finding(
            subject, FAILURE,
            f"{function} was due {_ago(now, due)} ago and has not fired ({last}): see that the app is running (az "
            f"functionapp start) and that no setting AzureWebJobs.{function}.Disabled is on",
        )  # fmt: skip
    return Finding(subject, OK, f"{function} fires ({last}); whether it got through, its log says")


def _statuses(services: Services, function: str) -> Iterator[str]:
    """The names of the blobs, one for each app that works with this account."""
    query = {"restype": "container", "comp": "list", "prefix": "timers/"}
    while True:
        page = services.blobs(_HOST_CONTAINER, **query)
        for part in page.content.split("<Name>")[1:]:
            name = part.partition("</Name>")[0]
            if name.endswith(f".{function}/status"):
                yield name
        marker = page.field("NextMarker")
        if not marker:
            return
        query["marker"] = marker


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _ago(now: datetime, then: datetime) -> str:
    seconds = max((now - then).total_seconds(), 0)
    return f"{seconds:.0f} s" if seconds < _LATE else f"{seconds / 60:.0f} min"
