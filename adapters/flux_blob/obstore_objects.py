"""`ObstoreObjects`: object storage by obstore, the Rust client: S3, Azure Blob, a local folder, memory.

It must not try again (`patience` does), and is the one place that knows obstore's errors.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import obstore
from obstore import exceptions as ex

from flux_blob.objects import PAGE, UNREACHED, Entry, Trouble
from flux_core.errors import PayloadTooLarge, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from obstore.store import ObjectStore as Client

    from flux_blob.places import Advice

_STATUS: Final = re.compile(r"status code: (\d{3})")
_PASSING: Final = frozenset({"408", "409", "425", "429"})
"""Client errors that another try may get past; every server error is one too."""
_NO_PLACE: Final = ("NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "ResourceNotFound")
_TOO_LARGE: Final = ("EntityTooLarge", "RequestBodyTooLarge", "MaxMessageLengthExceeded", "status code: 413")
_NO_CREDENTIALS: Final = ("169.254.169.254", "metadata", "credential", "Credential")
_VANISHED: Final = ("os error 2)", "os error 17)")
_MOST_TOLD: Final = 400


class ObstoreObjects:
    """An `ObjectStore` over an obstore client whose own retries are off."""

    def __init__(self, client: Client, name: str, advice: Advice, *, local: bool = False, memory: bool = False) -> None:
        """`advice` says what to do about missing places and refused access; `local`: no network is between."""
        self.name = name
        self.ephemeral = memory
        self.bulk = not (local or memory)
        self._client = client
        self._advice = advice
        self._local = local

    def put(self, key: str, data: bytes) -> bool:
        """Put an object if the key is free; False if it is taken."""
        try:
            obstore.put(self._client, key, data, mode="create", use_multipart=False)
        except ex.AlreadyExistsError:
            return False
        except (ex.BaseError, OSError) as error:
            raise self._trouble(error, f"put {key}") from error
        return True

    def get(self, key: str) -> bytes | None:
        """The object; None if there is none."""
        try:
            return bytes(obstore.get(self._client, key).bytes())
        except FileNotFoundError as error:
            if any(word in str(error) for word in _NO_PLACE):
                raise self._trouble(error, f"get {key}") from error
            return None
        except (ex.BaseError, OSError) as error:
            raise self._trouble(error, f"get {key}") from error

    def keys(self, folder: str, after: str) -> Iterator[list[Entry]]:
        """Keys in order. A folder of the file system gives them in none, and some services ignore `after`."""
        try:
            listed = obstore.list(self._client, folder or None, offset=after or None, chunk_size=PAGE)
            pages: Iterable[Iterable[obstore.ObjectMeta]] = listed
            if self._local:
                pages = [sorted((meta for page in listed for meta in page), key=lambda meta: meta["path"])]
            for page in pages:
                entries = [
                    Entry(meta["path"], int(meta["last_modified"].timestamp() * 1000))
                    for meta in page
                    if meta["path"] > after
                ]
                if entries:
                    yield entries
        except (ex.BaseError, OSError) as error:
            raise self._trouble(error, f"list {folder}") from error

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly under `folder/`."""
        try:
            found = obstore.list_with_delimiter(self._client, folder or None)["common_prefixes"]
        except (ex.BaseError, OSError) as error:
            raise self._trouble(error, f"list {folder}") from error
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete exactly these objects."""
        try:
            obstore.delete(self._client, keys[0] if len(keys) == 1 else list(keys))
        except FileNotFoundError as error:
            if any(word in str(error) for word in _NO_PLACE):
                raise self._trouble(error, "delete") from error
            if len(keys) > 1:  # one of them was gone; whether the others were reached is not told
                for key in keys:
                    self.delete([key])
        except (ex.BaseError, OSError) as error:
            raise self._trouble(error, "delete") from error

    def ensure(self) -> None:
        """Look whether it can be read. obstore creates no bucket; a folder is made with the client."""
        next(self.keys("_due", ""), None)

    # --- the one place where obstore's errors become the kit's ---------------------------------------------------

    def _trouble(self, error: Exception, what: str) -> Trouble:
        whole = str(error)
        text = " ".join(whole.partition("\n\nDebug source")[0].split())
        status = (_STATUS.search(text) or ("", ""))[1]
        if any(word in whole for word in _TOO_LARGE):
            refused = PayloadTooLarge(
                f"{self.name} refused to {what}: it is larger than the service keeps. "
                f"Keep large values elsewhere with payloads=... of the engine. ({text[:_MOST_TOLD]})"
            )
            return Trouble(refused, passing=False)
        passing, advice = not self._local, UNREACHED
        if self._local:
            # A folder that has become empty is removed, perhaps just when somebody puts the next object there.
            passing = any(word in text for word in _VANISHED)
            advice = "Check the permissions of the folder and the free space of its disk."
        elif isinstance(error, FileNotFoundError) or any(word in whole for word in _NO_PLACE):
            passing, advice = False, self._advice.missing
        elif isinstance(error, PermissionError | ex.PermissionDeniedError | ex.UnauthenticatedError) or status in {
            "401",
            "403",
        }:
            passing, advice = False, self._advice.denied
        elif status.startswith("3") or "redirect" in text:
            passing, advice = False, self._advice.elsewhere
        elif status.startswith("4"):
            passing = status in _PASSING
        elif not isinstance(error, ex.GenericError):
            passing = False
        if passing and any(word in text for word in _NO_CREDENTIALS):
            advice = self._advice.denied
        told = text[:_MOST_TOLD].rstrip(". ")
        return Trouble(StorageUnavailable(f"{self.name} did not {what}: {told}. {advice}"), passing=passing)
