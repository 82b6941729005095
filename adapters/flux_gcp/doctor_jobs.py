"""What Flux counts on of Cloud Scheduler: a job that asks for the sweep, and one that asks for the purge.

It must not run a job.
"""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from flux_core.doctor import FAILURE, OK, UNKNOWN, WARNING, Finding
from flux_gcp.doctor_deliveries import refusal
from flux_gcp.doctor_services import SCHEDULER, Refused
from flux_gcp.settings import QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from flux_gcp.doctor_services import Services
    from flux_gcp.settings import FunctionSettings

ACTIONS: Final = {"sweeper": "sweep", "purge": "purge"}
"""By the part of the function that a job calls: what it asks for."""
_LATELY: Final = {"sweeper": timedelta(minutes=10), "purge": timedelta(days=2)}
_EVERY: Final = {"sweeper": "* * * * *", "purge": "17 3 * * *"}
_RUN: Final = ".run.app"


def of_jobs(
    part: str, settings: FunctionSettings, address: str | None, project: str | None, services: Services
) -> Iterator[Finding]:
    """Whether a job asks for what the function that plays `part` does, and did so lately.

    It is looked for where the queue is, else in `project`. `address`: where that function's routes begin, if it is
    known; jobs of several deployments are told apart by it, else by the account that they have.
    """
    subject = f"{part} job"
    place = _place(settings.queue, address, project)
    if place is None:
        said = f"nothing says in which project and location its job is: set {QUEUE}"
        yield Finding(subject, UNKNOWN, said)
        return
    try:
        jobs = services.all(SCHEDULER, f"v1/{place}/jobs", "jobs", "cloudscheduler.jobs.list")
    except Refused as error:
        yield Finding(subject, UNKNOWN, str(error))
        return
    asking = [job for job in jobs if _action(job) == ACTIONS[part]]
    ours = (
        [job for job in asking if address and _calls(job, address)]
        or [job for job in asking if settings.account and _account(job) == settings.account]
        or asking
    )
    for job in ours:
        yield Finding(subject, *_judged(job, part))
    if ours:
        return
    wanted = json.dumps({"action": ACTIONS[part]})
    silent = [_name(job) for job in jobs if address and _calls(job, address)]
    if silent:
        said = f"{', '.join(silent)} calls it, but with another body than {wanted}: deploy it anew"
        yield Finding(subject, FAILURE, said)
    else:
        said = f"no job of Cloud Scheduler in {place} asks for {wanted}: see that something else does"
        yield Finding(subject, WARNING, said)


def _judged(job: Mapping[str, Any], part: str) -> tuple[str, str]:
    name = _name(job)
    if job.get("state") != "ENABLED":
        _, project, _, location, _, short = str(job["name"]).split("/")
        command = f"gcloud scheduler jobs resume {short} --location={location} --project={project}"
        return FAILURE, f"{name} is {job.get('state')}: {command}, or deploy it anew"
    if "lastAttemptTime" not in job:
        return WARNING, f"{name} has not run yet: look again after its next time ({job.get('schedule')})"
    ago = datetime.now(UTC) - datetime.fromisoformat(job["lastAttemptTime"])
    shown = _shown(ago)
    if ago > _LATELY[part]:
        said = f"{name} ran {shown}, by the schedule {job.get('schedule')}: it should be {_EVERY[part]}"
        return FAILURE, said
    refused = refusal(job.get("status", {}), _account(job), "the URI of the job")
    if refused is not None:
        return FAILURE, f"{name} ran {shown} and failed: {refused.said}"
    return OK, f"{name} ran {shown}"


def _place(queue: str | None, address: str | None, project: str | None) -> str | None:
    """That of the queue, else of the function: NAME-NUMBER.LOCATION.run.app; Cloud Run's older addresses tell none."""
    if queue:
        return queue.partition("/queues/")[0]
    host = urlsplit(address or "").hostname or ""
    found = host.removesuffix(_RUN).rpartition(".")[2]
    known = project is not None and host.endswith(_RUN) and "-" in found
    return f"projects/{project}/locations/{found}" if known else None


def _action(job: Mapping[str, Any]) -> object:
    """What it asks for, over HTTP or by Pub/Sub; None if it is no job of Flux's."""
    sent = job.get("httpTarget", {}).get("body") or job.get("pubsubTarget", {}).get("data") or ""
    try:
        tree = json.loads(b64decode(sent))
    except ValueError:
        return None
    return tree.get("action") if isinstance(tree, dict) else None


def _calls(job: Mapping[str, Any], address: str) -> bool:
    return str(job.get("httpTarget", {}).get("uri", "")).startswith(f"{address.rstrip('/')}/")


def _account(job: Mapping[str, Any]) -> str | None:
    account: str | None = job.get("httpTarget", {}).get("oidcToken", {}).get("serviceAccountEmail")
    return account


def _shown(ago: timedelta) -> str:
    for unit, word in ((timedelta(hours=1), "h"), (timedelta(minutes=1), "min")):
        if ago >= 2 * unit:
            return f"{ago / unit:.0f} {word} ago"
    return "just now"


def _name(job: Mapping[str, Any]) -> str:
    return str(job["name"]).rpartition("/")[2]
