"""Every error of the kit, sorted by what the platform that runs an invocation must do with it.

- `CallerError`: the request is wrong; answer 4xx and do not retry the invocation.
- `StepFault`: a step (and perhaps its workflow) fails; the invocation itself went well.
- `InvocationError`: nothing is wrong with the workflow; let the platform retry the invocation.
- `CorruptRecord`: neither helps; a person has to look. Nothing is overwritten.

This module must not import anything of the kit.
"""

from __future__ import annotations


class FluxError(Exception):
    """The base of every error that the kit raises on purpose."""


# --- answer 4xx -----------------------------------------------------------------------------------


class CallerError(FluxError):
    """The request cannot be carried out as it was made."""


class DefinitionError(CallerError):
    """A workflow is declared wrongly; the message says what to change."""


class InputInvalid(CallerError):
    """The input of `execute` does not fit the workflow's `.input(...)`."""


class NotFound(CallerError):
    """Something named in the request does not exist."""


class UnknownWorkflow(NotFound):
    """No workflow of that name is registered with the engine."""


class UnknownInstance(NotFound):
    """No instance of that id exists in the store."""


class PurgeUnfinished(UnknownInstance):
    """The instance is being deleted, or its deletion was interrupted: deleting it again completes it."""

    def __init__(self, message: str, seq: int) -> None:
        """`seq` is the number that `WorkflowStorage.purge` was called with."""
        super().__init__(message)
        self.seq = seq


class UnknownStep(NotFound):
    """The workflow has no step of that name."""


class Conflict(CallerError):
    """The same id (or de-duplication id) was used before with other content (PROTOCOL rules 4 and 19)."""


class Refused(CallerError):
    """The verb is not allowed in the instance's present status (table of verbs in SEMANTICS)."""


class InvalidToken(CallerError):
    """A callback token that none of the keys has signed."""


class ExpiredToken(CallerError):
    """A callback token that was good once: its time is over, or the step that handed it out was retried."""


class PayloadTooLarge(CallerError):
    """The store's service keeps nothing of that size, and the engine was given no `payloads=` to keep it elsewhere."""


class WorkflowFailed(FluxError):
    """Raised by `FluxResult.raise_for_status()` for an instance that did not complete."""


# --- the step fails ---------------------------------------------------------------------------------


class StepFault(FluxError):
    """A step's attempt ended without a success."""


class NonRetryable(StepFault):
    """Raise it (or a subclass) in a handler: the step fails at once, whatever retries are left."""


class Unknown(StepFault):
    """Raise it in a commit's handler when it cannot tell whether the effect happened (PROTOCOL rule 9)."""


class StepTimeout(StepFault):
    """An attempt outlasted its time limit."""


class WaitTimeout(NonRetryable):
    """No signal came in time."""


class LoopLimit(NonRetryable):
    """The condition of a `.while_` still held after `max_iterations`."""


class WriteConflict(NonRetryable):
    """Several branches of a parallel, or items of a map, have written the same key of `ctx.data`."""


class ChildFailed(NonRetryable):
    """The child that a step waited for did not complete."""


class Unserialisable(NonRetryable):
    """A step produced a value that the store cannot keep; the message names the key and the path."""


class InputMutated(NonRetryable):
    """A handler changed `ctx.input`, which belongs to the caller."""


class SecretUnavailable(StepFault):
    """The resolver of secrets raised. The attempt failed, and is retried like any other."""


class UnknownSecret(NonRetryable):
    """The resolver of secrets does not know the name."""


class SecretsNotConfigured(NonRetryable):
    """The engine has no resolver of secrets, or one that does not return text."""


class SecretExposed(Unserialisable):
    """A step would have put the value of a secret into the store; the message says where."""


# --- the platform retries the invocation ---------------------------------------------------------------


class InvocationError(FluxError):
    """The invocation could not go on; running it again is safe and is what to do."""


class StorageUnavailable(InvocationError):
    """The store did not answer, is full, locked or throttled. A write may or may not have happened."""


class SchedulerUnavailable(InvocationError):
    """The queue did not answer. Nothing is lost: the due index has what it was to be told."""


class LeaseLost(InvocationError):
    """Another invocation has taken the instance over; this one changed nothing more."""


class ImportUnfinished(InvocationError):
    """The instance is being imported, or its import was interrupted: it cannot run before the import is complete."""


# --- a person has to look --------------------------------------------------------------------------------


class CorruptRecord(FluxError):
    """A stored record cannot be read: damaged, of a newer schema, or of a type that is not registered."""


class PayloadMissing(CorruptRecord):
    """What a record keeps outside of the store is not in the payload store that was asked (PROTOCOL, I14)."""
