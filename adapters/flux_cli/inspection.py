"""All that the store knows of one instance, read from its log. It must not change or print anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from flux_core import WorkflowState
from flux_core.audit import audit
from flux_core.codec import decode_payload
from flux_core.context import history
from flux_core.load import fold_raw, unknown_instance
from flux_core.machine.waiting import mail_key
from flux_core.values import encode

if TYPE_CHECKING:
    from flux_cli.targets import Target
    from flux_core import AuditEntry, Mail, StepExecution, WorkflowDefinition
    from flux_core.records import Record


class Letter(NamedTuple):
    """A signal in the mailbox, and what it brings."""

    mail: Mail
    payload: object


class Inspection:
    """An instance as its log tells it; `refresh` reads on from there."""

    def __init__(self, target: Target) -> None:
        """`UnknownInstance` if there is none, `CorruptRecord` if it cannot be read."""
        self.target = target
        self.state = WorkflowState(*target.ref)
        self.log: list[Record] = []
        self.since = 0
        """When the status last changed, in milliseconds since the epoch."""
        self.now = 0
        """When it was looked at."""
        self.due: int | None = None
        """When it may need a tick, as the due index has it."""
        self.refresh()

    @property
    def definition(self) -> WorkflowDefinition:
        """What the engine knows the workflow as."""
        return self.target.engine.workflows[self.target.workflow]

    def shown(self, value: object) -> Any:
        """A user's value as JSON types, without what the engine redacts."""
        return json.loads(encode(self.target.engine.redacted(value), "a value").text)

    @property
    def input(self) -> Any:
        """The input, as it may be shown."""
        return self.shown({"input": self.state.input})["input"]

    @property
    def data(self) -> Any:
        """`ctx.data`, as it may be shown."""
        return self.shown({"data": dict(self.state.data)})["data"]

    def steps(self) -> list[StepExecution]:
        """One entry a step in definition order."""
        return history(self.state)

    def refresh(self) -> list[Record]:
        """Fold what was written since, and return it."""
        storage, ref = self.target.engine.storage, self.target.ref
        self.now = self.target.engine.clock.now()
        fresh = []
        for raw in storage.read(ref, self.state.seq + 1):
            before = self.state.status
            record = fold_raw(self.state, raw, ref)
            if self.state.status != before or not self.log:
                self.since = record.at
            self.log.append(record)
            fresh.append(record)
        header = storage.header(ref)
        if header is None or not self.log:
            raise unknown_instance(ref)
        self.due = header.due
        return fresh

    def audit(self) -> list[AuditEntry]:
        """What people did to it by hand, oldest first."""
        return audit(self.log)

    def letters(self) -> list[Letter]:
        """The signals that no step has consumed, oldest first."""
        storage, ref = self.target.engine.storage, self.target.ref
        return [
            Letter(mail, decode_payload(mail.body, ref, mail_key(mail)))
            for mail in storage.mail(ref)
            if mail_key(mail) not in self.state.consumed
        ]
