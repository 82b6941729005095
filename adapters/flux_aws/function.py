"""What a function runs on: engine, host, logger and metrics, made of settings. It must not handle an event."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from flux_aws import settings as names
from flux_aws.clients import Sessions
from flux_aws.dynamodb import DynamoDBStorage
from flux_aws.logging import PowertoolsLogger
from flux_aws.metrics import EmfSink
from flux_aws.scheduler import HOP_BUDGET, SqsScheduler
from flux_aws.settings import Settings
from flux_core.errors import DefinitionError
from flux_core.host import Host
from flux_core.hosting import PAYLOADS, STORAGE, checked, hosted
from flux_core.invocation import brief

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from flux_core.engine import FluxEngine, Workflow
    from flux_core.invocation import Reply
    from flux_core.ports import WorkflowStorage


class OpenFunction(NamedTuple):
    """All that an event needs."""

    host: Host
    logger: PowertoolsLogger
    metrics: EmfSink
    base_path: str
    """The path of the public URL, which a custom domain may put before the routes."""

    def tell(self, reply: Reply) -> None:
        """Nobody may be waiting for the answer: what was wrong with the request is a line of the log."""
        if reply.error is not None:
            self.logger.warn("an invocation was refused", status=reply.status, error=brief(reply.error))


def open_function(
    workflows: Sequence[Workflow],
    storage: WorkflowStorage | None,
    engine: FluxEngine | None,
    *,
    only_callbacks: bool,
    options: Mapping[str, Any],
) -> OpenFunction:
    """Read the environment and make it. `DefinitionError` says which setting is missing or wrong."""
    settings = Settings.from_env()
    if settings.metrics is not None and find_spec("aws_lambda_powertools") is None:
        raise DefinitionError(
            f"{names.METRICS} is set, and metrics are written by Powertools, which is not installed. Run: "
            f"pip install 'flux-serverless[aws]', or unset it."
        )
    logger, metrics = PowertoolsLogger(settings.host.log_level), EmfSink(settings.metrics)
    if engine is None:
        given = {"logger": logger, **options}
        if settings.metrics is not None:
            sinks = given.get("trace") or ()
            given["trace"] = (*((sinks,) if hasattr(sinks, "emit") else sinks), metrics)
        engine = engine_of(settings, workflows, storage, **given)
    elif workflows or storage is not None or options:
        raise DefinitionError(
            "lambda_handler(engine=...) takes nothing else: give its workflows and options to the engine."
        )
    else:
        checked(engine, settings.host, queue=names.QUEUE_URL)
    host = Host(engine, settings.host, only_callbacks=only_callbacks, timekeeper=timekeeper())
    return OpenFunction(host, logger, metrics, _path_of(settings.host.public_url))


def engine_of(
    settings: Settings,
    workflows: Sequence[Workflow] = (),
    storage: WorkflowStorage | None = None,
    *,
    sessions: Sessions | None = None,
    **options: Any,
) -> FluxEngine:
    """The engine that the settings describe; `storage` and `options` (those of `FluxEngine`) win over them."""
    sessions = sessions or Sessions()
    if settings.host.payloads is not None and "payloads" not in options:
        from flux_blob import BlobPayloads

        options["payloads"] = BlobPayloads(_bucket(settings.host.payloads, PAYLOADS))
    scheduler = options.pop("scheduler", None)
    if scheduler is None and settings.queue_url is not None:
        # Without a sweeper nobody would begin a new chain: better one that Lambda may cut than one that ends.
        budget = (settings.hop_budget or HOP_BUDGET) if settings.host.sweeper else None
        scheduler = SqsScheduler(settings.queue_url, hop_budget=budget, sessions=sessions)
    keys = None
    if settings.callback_secret is not None:
        from flux_aws.secret import CallbackSecret

        keys = CallbackSecret(settings.callback_secret, sessions=sessions)
    return hosted(
        settings.host,
        workflows,
        _storage(settings, sessions) if storage is None else storage,
        scheduler,
        queue=names.QUEUE_URL,
        keys=keys,
        **options,
    )


def timekeeper() -> str:
    """The address of AWS's whose clock is compared with this machine's: one that a function in a network can reach."""
    region = names.region() or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return os.environ.get(names.ENDPOINT) or os.environ.get("AWS_ENDPOINT_URL") or f"https://dynamodb.{region}.{suffix}"


def _storage(settings: Settings, sessions: Sessions) -> WorkflowStorage:
    if (settings.table is None) == (settings.host.storage is None):
        which = "neither" if settings.table is None else "both"
        raise DefinitionError(
            f"The function has to know where its instances are kept, and {which} of {names.TABLE} (a DynamoDB table) "
            f"and {STORAGE} (s3://bucket/prefix) is set: set one of them, or pass storage= to lambda_handler."
        )
    if settings.table is not None:
        return DynamoDBStorage(settings.table, session=sessions.session)
    from flux_blob import BlobStorage

    return BlobStorage(_bucket(str(settings.host.storage), STORAGE))


def _bucket(address: str, name: str) -> str:
    if not address.startswith("s3://"):
        raise DefinitionError(f"{name} has to be an address such as s3://bucket/prefix, not {address!r}.")
    return address


def _path_of(url: str | None) -> str:
    return "" if url is None else "/".join(["", *url.split("/")[3:]]).rstrip("/")
