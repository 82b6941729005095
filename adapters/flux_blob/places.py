"""Where a blob store lives: an address becomes an `ObjectStore`. It must not send a request.

`s3://bucket/root`, `gs://bucket/root`, `az://container/root`, `memory://`, or the path of a folder. Settings that are
not given come from where the service's own tools take them: environment, role, metadata service.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flux_core.errors import DefinitionError, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flux_blob.objects import ObjectStore


_ENDPOINTS: Final = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""Where obstore finds the address of a service that is somewhere else."""


class Advice(NamedTuple):
    """What to do: the place is missing, access is refused, or it is somewhere else."""

    missing: str
    denied: str
    elsewhere: str


class Place(NamedTuple):
    """A checked address."""

    scheme: str
    name: str
    """Bucket, container or absolute folder."""
    root: str
    """What comes before every key: "" or ending in a slash."""

    def __str__(self) -> str:
        return self.name if self.scheme == "file" else f"{self.scheme}://{self.name}/{self.root}".rstrip("/")


def parse_place(address: str | os.PathLike[str], kind: str) -> Place:
    """The place that `address` names; `DefinitionError`, for a `kind` of store, if it names none."""
    text = os.fspath(address)
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "file", text
    if scheme == "file" and rest:
        return Place("file", os.path.abspath(rest), "")  # noqa: PTH100 -- importing pathlib costs more than all this
    name, _, root = rest.strip("/").partition("/")
    segments = root.split("/") if root else []
    if scheme == "memory" and not rest:
        return Place("memory", "", "")
    if scheme in {"s3", "gs", "az"} and name and not {"", ".", ".."} & set(segments):
        return Place(scheme, name, f"{root}/" if root else "")
    raise DefinitionError(
        f"{kind} needs an address such as s3://bucket/root, gs://bucket/root, az://container/root or the path of a "
        f"folder, not {text!r}."
    )


def open_place(place: Place, options: Mapping[str, Any], timeout: float) -> ObjectStore:
    """The object store at `place`. `timeout` is that of one request, in seconds; `options` are the client's settings.

    Raises `DefinitionError` for a setting that the client does not know, `StorageUnavailable` if its library is
    missing or a needed setting is.
    """
    try:
        return _google(place, options, timeout) if place.scheme == "gs" else _obstore(place, options, timeout)
    except ImportError as error:
        extra, library = ("gcs", "google-cloud-storage") if place.scheme == "gs" else ("blob", "obstore")
        raise StorageUnavailable(
            f"{place} needs {library}, which is not installed ({error}). Run pip install '.[{extra}]' in the "
            "checkout that Flux came from."
        ) from error


def _obstore(place: Place, options: Mapping[str, Any], timeout: float) -> ObjectStore:
    from datetime import timedelta

    from obstore import store
    from obstore.exceptions import BaseError

    from flux_blob.obstore_objects import ObstoreObjects

    advice = _ADVICE[place.scheme](place.name)
    limit = timedelta(seconds=timeout)
    named = (os.environ.get(name) for name in _ENDPOINTS.get(place.scheme, ()))
    asked = options.get("endpoint") or next(filter(None, named), "")
    plain = str(asked).startswith("http://")  # that of an emulator: whoever writes it so has asked for it
    client = {"timeout": limit, "connect_timeout": min(limit, timedelta(seconds=2)), "allow_http": plain}
    retry = {"max_retries": 0, "retry_timeout": limit}
    try:
        match place.scheme:
            case "s3":
                bucket = store.S3Store(place.name, config=options, client_options=client, retry_config=retry)  # type: ignore[arg-type]
                return ObstoreObjects(bucket, str(place), advice)
            case "az":
                container = store.AzureStore(place.name, config=options, client_options=client, retry_config=retry)  # type: ignore[arg-type]
                return ObstoreObjects(container, str(place), advice)
            case "memory":
                return ObstoreObjects(store.MemoryStore(), "memory://", advice, memory=True)
            case _:
                folder = store.LocalStore(place.name, automatic_cleanup=True, mkdir=True)
                return ObstoreObjects(folder, place.name, advice, local=True)
    except (BaseError, OSError, ValueError, TypeError) as error:
        text = str(error).partition("\n\nDebug source")[0]
        if "onfiguration key" in text:
            raise DefinitionError(f"{place}: {text}. Correct options=... of the store.") from error
        raise StorageUnavailable(f"{place} cannot be opened: {text}. {advice.denied}") from error


def _google(place: Place, options: Mapping[str, Any], timeout: float) -> ObjectStore:
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage import Client

    from flux_blob.google_objects import GoogleObjects

    unknown = set(options) - {"project", "endpoint", "credentials"}
    if unknown:
        raise DefinitionError(
            f"{place}: there is no option {unknown.pop()!r}; the options are project, endpoint and credentials."
        )
    advice = _ADVICE["gs"](place.name)
    endpoint = options.get("endpoint") or os.environ.get("STORAGE_EMULATOR_HOST")
    credentials = options.get("credentials")
    if credentials is None and endpoint and str(endpoint).startswith("http://"):
        credentials = AnonymousCredentials()  # an emulator asks for none
    project = options.get("project") or os.environ.get("GOOGLE_CLOUD_PROJECT") or ("flux" if endpoint else None)
    try:
        client = Client(
            project=project, credentials=credentials, client_options={"api_endpoint": endpoint} if endpoint else None
        )
    except (GoogleAuthError, OSError) as error:
        raise StorageUnavailable(f"{place} cannot be opened: {str(error).rstrip('. ')}. {advice.denied}") from error
    return GoogleObjects(client, place.name, str(place), advice, timeout)


def _s3(bucket: str) -> Advice:
    return Advice(
        f"There is no bucket {bucket!r} there: create it (aws s3 mb s3://{bucket}) or correct the address.",
        "Give credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the function's role) that allow "
        f"s3:ListBucket on {bucket} and s3:GetObject, s3:PutObject and s3:DeleteObject in it.",
        f'The bucket {bucket!r} is in another region: set AWS_REGION or options={{"region": ...}}; '
        f"aws s3api get-bucket-location --bucket {bucket} tells which.",
    )


def _azure(container: str) -> Advice:
    return Advice(
        f"There is no container {container!r} in the account: create it (az storage container create --name "
        f"{container} --account-name ACCOUNT) or correct the address.",
        "Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or give the function's identity the role "
        "Storage Blob Data Contributor on the container.",
        "Check AZURE_STORAGE_ACCOUNT_NAME and the endpoint.",
    )


def _gcs(bucket: str) -> Advice:
    return Advice(
        f"There is no bucket {bucket!r}: create it (gcloud storage buckets create gs://{bucket}) or correct the "
        "address.",
        "Give credentials (gcloud auth application-default login, GOOGLE_APPLICATION_CREDENTIALS, or the function's "
        f"service account) that have roles/storage.objectUser on gs://{bucket}.",
        "Check the endpoint.",
    )


def _none(_: str) -> Advice:
    return Advice("", "Check the path and its permissions.", "")


_ADVICE = {"s3": _s3, "az": _azure, "gs": _gcs, "file": _none, "memory": _none}
