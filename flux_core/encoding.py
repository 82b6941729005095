"""`EncodedStorage` and `EncodedPayloads`: what is stored goes through a `Codec`, such as one that encrypts.

They must not know what a codec does, nor compare encoded bytes: it need not give the same twice.
Names, headers and the times and ids of mail stay as they are, because stores look instances up by them.
"""

from __future__ import annotations

from flux_core.errors import CorruptRecord, FluxError
from flux_core.layer import StorageLayer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flux_core.ports import Codec, Header, InstanceRef, Mail, PayloadStorage, WorkflowStorage


class EncodedStorage(StorageLayer):
    """A `WorkflowStorage` around `inner` whose records, mail bodies and snapshots are encoded by `codec`.

    Raises `CorruptRecord` naming the record if the codec cannot decode what is there. Errors of the kit that the codec
    raises (`StorageUnavailable` where a key service does not answer) pass as they are; what else it raises while
    encoding passes too, and nothing is written.
    """

    def __init__(self, inner: WorkflowStorage, codec: Codec) -> None:
        """Around a `ClaimCheckStorage`, payloads are encoded by this one too."""
        super().__init__(inner)
        self.codec = codec

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        """Put `record` at `seq` unless the slot is taken: None if written, else what was found, decoded."""
        place = _place(ref, "L", seq)
        found = self.inner.append(ref, seq, self.codec.encode(record, place), header)
        return None if found is None else _decoded(self.codec, found, place)

    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        """All records from `start` on."""
        raws = self.inner.read(ref, start)
        return [_decoded(self.codec, raw, _place(ref, "L", seq)) for seq, raw in enumerate(raws, start)]

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest record with its sequence number; None for an unknown instance."""
        found = self.inner.tail(ref)
        return None if found is None else (found[0], _decoded(self.codec, found[1], _place(ref, "L", found[0])))

    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        """Put mail unless its (name, id) is taken: None if written, else the mail found, decoded."""
        body = self.codec.encode(mail.body, _mail_place(ref, mail))
        found = self.inner.put_mail(ref, mail._replace(body=body))
        return None if found is None else self._decoded_mail(ref, found)

    def mail(self, ref: InstanceRef) -> list[Mail]:
        """The whole mailbox."""
        return [self._decoded_mail(ref, mail) for mail in self.inner.mail(ref)]

    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        """Keep a snapshot of the state after record `seq`, unless a newer one is kept already."""
        self.inner.put_snapshot(ref, seq, self.codec.encode(state, _place(ref, "S", seq)))

    def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest snapshot with its sequence number."""
        found = self.inner.snapshot(ref)
        return None if found is None else (found[0], _decoded(self.codec, found[1], _place(ref, "S", found[0])))

    def _decoded_mail(self, ref: InstanceRef, mail: Mail) -> Mail:
        return mail._replace(body=_decoded(self.codec, mail.body, _mail_place(ref, mail)))


class EncodedPayloads:
    """A `PayloadStorage` around `inner` whose payloads are encoded by `codec`, under the hash of what is in them.

    For a `ClaimCheckStorage` that stands around an `EncodedStorage`. The other way round needs none.
    """

    def __init__(self, inner: PayloadStorage, codec: Codec) -> None:
        """`inner` is closed with this one."""
        self.inner = inner
        self.codec = codec
        self.ephemeral = inner.ephemeral

    def put(self, ref: InstanceRef, digest: str, data: bytes) -> None:
        """Keep `data` under `digest`, unless the instance has it already."""
        self.inner.put(ref, digest, self.codec.encode(data, _place(ref, "P", digest)))

    def get(self, ref: InstanceRef, digest: str) -> bytes:
        """The payload; `PayloadMissing` if there is none, `CorruptRecord` if it cannot be decoded."""
        return _decoded(self.codec, self.inner.get(ref, digest), _place(ref, "P", digest))

    def purge(self, ref: InstanceRef) -> None:
        """Remove all payloads of the instance."""
        self.inner.purge(ref)

    def ensure(self) -> None:
        """Create what `inner` needs."""
        self.inner.ensure()

    def close(self) -> None:
        """Release connections."""
        self.inner.close()


def _place(ref: InstanceRef, kind: str, key: str | int) -> bytes:
    """Names cannot contain a slash, so no two places are the same."""
    return f"{'/'.join(ref)}/{kind}/{key}".encode("utf-8", "surrogatepass")


def _mail_place(ref: InstanceRef, mail: Mail) -> bytes:
    return _place(ref, "M", f"{mail.name}/{mail.id}")


def _decoded(codec: Codec, raw: bytes, place: bytes) -> bytes:
    try:
        return codec.decode(raw, place)
    except FluxError:
        raise
    except Exception as error:
        message = (
            f"{place.decode('utf-8', 'replace')} cannot be decoded ({error!r}): it was written with another codec= or "
            f"key, or it is damaged; give the codec the keys of that time, or restore it from a backup. Nothing was "
            f"changed."
        )
        raise CorruptRecord(message) from error
