"""`GoogleObjects`: Google Cloud Storage by google-cloud-storage. Why not by obstore: docs/decisions/0019.

It must not try again (`patience` does), and is the one place that knows that library's errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import requests
from google.api_core import exceptions as ex
from google.auth import exceptions as auth

from flux_blob.objects import PAGE, UNREACHED, Entry, Trouble
from flux_core.errors import PayloadTooLarge, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.cloud.storage import Client

    from flux_blob.places import Advice

_PASSING: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_TOO_LARGE: Final = 413
_ERRORS: Final = (ex.GoogleAPIError, auth.GoogleAuthError, requests.RequestException, OSError)


class GoogleObjects:
    """An `ObjectStore` over one bucket; the library's own retries are off."""

    ephemeral = False
    bulk = False

    def __init__(self, client: Client, bucket: str, name: str, advice: Advice, timeout: float) -> None:
        """`timeout` is that of one request, in seconds."""
        self.name = name
        self._client = client
        self._bucket = client.bucket(bucket)
        self._advice = advice
        self._timeout = timeout

    def put(self, key: str, data: bytes) -> bool:
        """Put an object if the key is free; False if it is taken."""
        try:
            self._bucket.blob(key).upload_from_string(
                data,
                content_type="application/octet-stream",
                if_generation_match=0,
                timeout=self._timeout,
                retry=None,
            )
        except ex.PreconditionFailed:
            return False
        except _ERRORS as error:
            raise self._trouble(error, f"put {key}") from error
        return True

    def get(self, key: str) -> bytes | None:
        """The object; None if there is none."""
        try:
            data: bytes = self._bucket.blob(key).download_as_bytes(timeout=self._timeout, retry=None)
        except ex.NotFound as error:
            if "bucket" in str(error).lower().replace(f"/b/{self._bucket.name}".lower(), ""):
                raise self._trouble(error, f"get {key}") from error
            return None
        except _ERRORS as error:
            raise self._trouble(error, f"get {key}") from error
        return data

    def keys(self, folder: str, after: str) -> Iterator[list[Entry]]:
        """Keys in order; the service's offset is inclusive, so `after` itself is left out here."""
        try:
            pages = self._client.list_blobs(
                self._bucket,
                prefix=f"{folder}/" if folder else None,
                start_offset=after or None,
                page_size=PAGE,
                fields="items(name,timeCreated),nextPageToken",
                timeout=self._timeout,
                retry=None,
            ).pages
            for page in pages:
                entries = [
                    Entry(blob.name, int(blob.time_created.timestamp() * 1000)) for blob in page if blob.name > after
                ]
                if entries:
                    yield entries
        except _ERRORS as error:
            raise self._trouble(error, f"list {folder}") from error

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly under `folder/`."""
        prefix = f"{folder}/" if folder else ""
        try:
            found = self._client.list_blobs(
                self._bucket, prefix=prefix, delimiter="/", timeout=self._timeout, retry=None
            )
            for _ in found:
                pass  # the prefixes are complete only once all pages were read
            return sorted(path[len(prefix) :].rstrip("/") for path in found.prefixes)
        except _ERRORS as error:
            raise self._trouble(error, f"list {folder}") from error

    def delete(self, keys: Sequence[str]) -> None:
        """Delete exactly these objects, one request each."""
        for key in keys:
            try:
                self._bucket.blob(key).delete(timeout=self._timeout, retry=None)
            except ex.NotFound:
                continue
            except _ERRORS as error:
                raise self._trouble(error, f"delete {key}") from error

    def ensure(self) -> None:
        """Create the bucket if it is absent."""
        try:
            self._bucket.create(timeout=self._timeout, retry=None)
        except ex.Conflict:
            return  # it is there
        except ex.Forbidden:
            next(self.keys("_due", ""), None)  # may not create; perhaps it need not
        except _ERRORS as error:
            raise self._trouble(error, "create the bucket") from error

    # --- the one place where the library's errors become the kit's -----------------------------------------------

    def _trouble(self, error: Exception, what: str) -> Trouble:
        code = error.code if isinstance(error, ex.GoogleAPICallError) else None
        if code == _TOO_LARGE:
            refused = PayloadTooLarge(
                f"{self.name} refused to {what}: it is larger than the service keeps. "
                f"Keep large values elsewhere with payloads=... of the engine. ({error})"
            )
            return Trouble(refused, passing=False)
        passing, advice = code is None or code in _PASSING, UNREACHED
        if isinstance(error, auth.GoogleAuthError) or code in {401, 403}:
            passing, advice = False, self._advice.denied
        elif isinstance(error, ex.NotFound):
            passing, advice = False, self._advice.missing
        return Trouble(StorageUnavailable(f"{self.name} did not {what}: {error}. {advice}"), passing=passing)
