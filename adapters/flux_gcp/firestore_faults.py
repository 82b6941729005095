"""The one place where an error of Google's libraries becomes an error of the kit. It must not make a call.

Codes: https://cloud.google.com/firestore/docs/understand-error-codes. What passes by itself or after an operator's help
is `StorageUnavailable` (the platform runs the invocation again); what is too large is `PayloadTooLarge`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from flux_core.errors import FluxError, PayloadTooLarge, PurgeUnfinished, StorageUnavailable
from flux_gcp import settings as names

if TYPE_CHECKING:
    from flux_core.ports import InstanceRef
    from flux_gcp.settings import FirestoreSettings

PASSING: Final = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"})
"""What may go well when it is tried again. Every write is conditional, so trying one again is always safe."""

_LOG_IN = (
    "On a machine of your own run `gcloud auth application-default login` or set GOOGLE_APPLICATION_CREDENTIALS to a "
    f"key file; on Google Cloud give the function a service account. For the emulator set {names.EMULATOR}."
)
_TOO_LARGE = ("longer than", "maximum size", "exceeds the maximum", "larger than max")


def is_too_large(details: str) -> bool:
    """Whether a refusal says that what was sent has too many bytes."""
    return any(words in details for words in _TOO_LARGE)


def translate(code: str, details: str, settings: FirestoreSettings, database: str) -> FluxError:
    """The kit's error for a call on `database` that ended with the status `code`, to be raised from Google's."""
    if is_too_large(details):
        return PayloadTooLarge(
            f"Firestore ({database}) takes at most 1 MiB a document and 10 MiB a commit: {details} "
            "Pass FluxEngine(payloads=...), which keeps large values elsewhere."
        )
    return StorageUnavailable(f"Firestore ({database}) {_advice(code, details, settings)} ({code}: {details})")


def _advice(code: str, details: str, settings: FirestoreSettings) -> str:
    given_up = f"and was given up after {settings.timeout:g} s ({names.TIMEOUT})"
    match code:
        case "RESOURCE_EXHAUSTED":
            return (
                f"is throttled or its quota is used up, {given_up}. Nothing is lost. Look at the quotas of the project "
                "in the console; traffic to a new database should grow by no more than half in five minutes."
            )
        case "ABORTED":
            return f"had too many writers at one document, {given_up}. Nothing is lost; run it again."
        case "UNAUTHENTICATED":
            return f"does not accept the credentials. {_LOG_IN}"
        case "UNAVAILABLE" if "metadata from plugin" in details:
            return f"could not be asked, since the credentials could not be renewed, {given_up}. {_LOG_IN}"
        case "PERMISSION_DENIED":
            return (
                "refuses access. Give the service account the role roles/datastore.user on the project (ensure() needs "
                "roles/datastore.owner), enable the API (`gcloud services enable firestore.googleapis.com`), and look "
                f"at {names.PROJECT}."
            )
        case "NOT_FOUND":
            return (
                f"does not exist. Look at {names.PROJECT} and {names.DATABASE}, or create it: `gcloud firestore "
                f"databases create --database='{settings.database}' --location=LOCATION`, or "
                'FirestoreStorage(...).ensure(location="LOCATION").'
            )
        case "FAILED_PRECONDITION" if "index" in details:
            return (
                "has not got an index that this query needs, or is still building it. Create all of them with "
                "FirestoreStorage(...).ensure(), or deploy what `python -m flux_gcp.firestore_indexes` prints."
            )
        case "FAILED_PRECONDITION" if "Datastore Mode" in details:
            return f"is a database in Datastore mode. Flux needs one in native mode; name it with {names.DATABASE}."
        case "UNAVAILABLE" | "DEADLINE_EXCEEDED":
            emulator = os.environ.get(names.EMULATOR)
            return (
                f"did not answer {given_up}. See that the network leads to firestore.googleapis.com."
                if emulator is None
                else f"did not answer {given_up}. {names.EMULATOR} is set to {emulator!r}: does an emulator run there "
                "(host and port, without http://), and is it meant?"
            )
        case _:
            return "failed."


def no_credentials(error: Exception) -> StorageUnavailable:
    """No credentials are to be found at all."""
    return StorageUnavailable(f"There are no Google credentials to use Firestore with. {_LOG_IN} ({error})")


def no_project() -> StorageUnavailable:
    """Nothing says which project is meant."""
    return StorageUnavailable(
        f"Firestore needs a project: pass FirestoreStorage(project=...), set {names.GOOGLE_PROJECT}, or set "
        f"{names.PROJECT} and use FirestoreStorage.from_env()."
    )


def not_installed(error: ImportError) -> StorageUnavailable:
    """Google's library is not there."""
    return StorageUnavailable(
        f"FirestoreStorage needs google-cloud-firestore ({error}). Run pip install '.[gcp]' in the checkout that Flux "
        "came from."
    )


def was_closed(database: str) -> StorageUnavailable:
    """The store was closed by the program."""
    return StorageUnavailable(f"This FirestoreStorage on {database} was closed. Make a new one.")


def too_large(ref: InstanceRef, what: str, size: int, largest: int) -> PayloadTooLarge:
    """`what` of an instance is above what Firestore takes."""
    return PayloadTooLarge(
        f"{what} of {ref.workflow}/{ref.id} (tenant {ref.tenant}) has {size:,} bytes; Firestore takes at most "
        f"{largest:,}. Pass FluxEngine(payloads=...), which keeps large values elsewhere."
    )


def being_purged(ref: InstanceRef, seq: int) -> PurgeUnfinished:
    """The instance, whose newest record was `seq`, is being deleted, or that was interrupted."""
    return PurgeUnfinished(
        f"workflow {ref.workflow!r}, id {ref.id!r} (tenant {ref.tenant!r}) is being deleted; if that was interrupted, "
        "delete it again to complete it",
        seq,
    )
