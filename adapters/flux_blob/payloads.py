"""`BlobPayloads`: what is too large for a store, in object storage under its SHA-256. It must not look into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_blob import layout
from flux_blob.layout import Layout
from flux_blob.patience import Connection
from flux_blob.places import parse_place
from flux_core.errors import PayloadMissing

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from typing import Any

    from flux_core.ports import InstanceRef


class BlobPayloads:
    """A `PayloadStorage` in S3, Google Cloud Storage, Azure Blob Storage or a local folder.

    The arguments are those of `BlobStorage`, but that it has more time, being there for what is large. Both may have
    the same address. A payload is put once under `{instance}/P/{sha256}` and never changed.
    """

    def __init__(
        self, address: str | os.PathLike[str], *, options: Mapping[str, Any] | None = None, time_limit: float = 20.0
    ) -> None:
        """Check the arguments; the client is made by the first call."""
        place = parse_place(address, "BlobPayloads")
        self.ephemeral = place.scheme == "memory"
        self._connection = Connection(place, options, time_limit, "BlobPayloads")
        self._layout = Layout(place.root)

    @property
    def address(self) -> str:
        """Where it is, as it was given."""
        return str(self._connection.place)

    def put(self, ref: InstanceRef, digest: str, data: bytes) -> None:
        """Keep `data` under `digest`, unless the instance has it already."""
        self._connection.call().put(self._key(ref, digest), data)

    def get(self, ref: InstanceRef, digest: str) -> bytes:
        """The payload, not checked against its hash; `PayloadMissing` if there is none."""
        key = self._key(ref, digest)
        found = self._connection.call().get(key)
        if found is None:
            raise PayloadMissing(f"{self.address} has no object {key}, the payload {digest} of {'/'.join(ref)}")
        return found

    def purge(self, ref: InstanceRef) -> None:
        """Remove all payloads of the instance."""
        folder = f"{self._layout.instance(ref)}/P"
        for page in [*self._connection.call().keys(folder)]:
            self._connection.call().delete([entry.key for entry in page])

    def ensure(self) -> None:
        """Create the folder or the GCS bucket if it is absent; for S3 and Azure say how, if it is."""
        self._connection.call().ensure()

    def close(self) -> None:
        """Let go of the client and its threads; later calls raise `StorageUnavailable`."""
        self._connection.close()

    def _key(self, ref: InstanceRef, digest: str) -> str:
        return layout.payload(self._layout.instance(ref), digest)
