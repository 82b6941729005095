"""The port to object storage: six methods that S3, GCS, Azure Blob and a folder all have. It must not know a workflow.

There is no method that overwrites. Each method is one try: trying again is the business of `patience`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flux_core.errors import FluxError

PAGE = 1000
"""Keys that one request for a list gives at most: S3's and GCS's number (Azure gives up to 5,000)."""

UNREACHED = "Look at the service and the network, and at the endpoint if one is set."
"""What to do where nothing better is known."""


class Entry(NamedTuple):
    """A key, and when its object was put (ms since the epoch, by the service's clock)."""

    key: str
    at: int


class Trouble(Exception):
    """What a try came to if it did not work: the kit's error for it, and whether another try may do better."""

    def __init__(self, error: FluxError, *, passing: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.passing = passing


class ObjectStore(Protocol):
    """One bucket, container or folder. Reads and lists see every put and delete that was acknowledged before.

    Every method raises `Trouble` and nothing else. Keys are segments joined by `/`, without one at either end.
    """

    name: str
    """For messages: `s3://orders`."""
    ephemeral: bool
    bulk: bool
    """Whether `delete` takes many keys in one request."""

    def put(self, key: str, data: bytes) -> bool:
        """Put an object if the key is free. False: it is taken, or another put of it was under way."""

    def get(self, key: str) -> bytes | None:
        """The object; None if there is none."""

    def keys(self, folder: str, after: str) -> Iterator[list[Entry]]:
        """The keys under `folder/` that are greater than `after` ("": all), in order, page by page as they are read."""

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly under `folder/`, in order."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete exactly these objects; one that is not there is no error."""

    def ensure(self) -> None:
        """Create the bucket, container or folder if that can be done from here; else tell who can."""
