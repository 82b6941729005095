"""`FirestoreStorage`: a `WorkflowStorage` in Cloud Firestore, native mode. What it does is in `firestore_instances`.

This is its door: settings, a client that is made by the first call and kept, and closing. It must not import Google's
libraries before that first call, nor know workflow rules.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from flux_core.errors import CallerError
from flux_gcp import firestore_faults as faults
from flux_gcp.settings import FirestoreSettings

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping, Sequence

    from google.auth.credentials import Credentials

    from flux_core.ports import Due, Header, InstanceRef, Mail, Page
    from flux_gcp.firestore_instances import Instances


class FirestoreStorage:
    """Instances in the Firestore database `database` of `project` (None: as the environment or the credentials say).

    `prefix` begins the names of its collections. `timeout`: seconds that one call may take, retries included (a page of
    300 records is a call); then it raises `StorageUnavailable`. `credentials`: Google's, by default those of the
    environment. Threads may share it; a process makes its own after a fork. Raises `DefinitionError` for arguments that
    cannot work.
    """

    ephemeral = False
    snapshot_records = 20
    """Reads are billed each: reading more records than that is dearer than a snapshot (PROTOCOL rule 12)."""

    def __init__(
        self,
        project: str | None = None,
        database: str = FirestoreSettings().database,
        *,
        prefix: str = FirestoreSettings().prefix,
        timeout: float = FirestoreSettings().timeout,
        credentials: Credentials | None = None,
    ) -> None:
        """Check the arguments; nothing of Google's is imported and nothing connected before the first call."""
        self.settings = FirestoreSettings(project, database, prefix, timeout).checked()
        self._credentials = credentials
        self._opening = Lock()
        self._opened: Instances | None = None
        self._closed = False

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> FirestoreStorage:
        """As the variables of `flux_gcp.settings` say; `DefinitionError` names the one that is wrong."""
        settings = FirestoreSettings.from_env(environment)
        return cls(settings.project, settings.database, prefix=settings.prefix, timeout=settings.timeout)

    # --- the log ---------------------------------------------------------------------------------------

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        """Put `record` at `seq` unless the slot is taken: None if written, else the bytes found.

        `PayloadTooLarge` for a record above 1,046,528 bytes.
        """
        return (self._opened or self._open()).append(ref, seq, record, header)

    def read(self, ref: InstanceRef, start: int = 0) -> builtins.list[bytes]:
        """All records from `start` on, in order; `CorruptRecord` if one is missing between them."""
        return (self._opened or self._open()).read(ref, start)

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest record with its sequence number; None for an unknown instance."""
        return (self._opened or self._open()).tail(ref)

    # --- mailbox and snapshots ---------------------------------------------------------------------------

    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        """Put mail unless its (name, id) is taken: None if written, else the mail found."""
        return (self._opened or self._open()).put_mail(ref, mail)

    def mail(self, ref: InstanceRef) -> builtins.list[Mail]:
        """The whole mailbox, ordered by (`at`, `id`), then by name."""
        return (self._opened or self._open()).mail(ref)

    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        """Keep a snapshot of the state after record `seq`; `PayloadTooLarge` above 9,418,752 bytes."""
        (self._opened or self._open()).put_snapshot(ref, seq, state)

    def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest snapshot with its sequence number."""
        return (self._opened or self._open()).snapshot(ref)

    # --- header and indexes ------------------------------------------------------------------------------

    def header(self, ref: InstanceRef) -> Header | None:
        """The header, `due` as the last append, nudge or settle left it; None for an unknown instance."""
        return (self._opened or self._open()).header(ref)

    def nudge(self, ref: InstanceRef, epoch: int, due: int) -> bool:
        """Make the due entry no later than `due`, if the header still has `epoch`; False if it has another."""
        return (self._opened or self._open()).nudge(ref, epoch, due)

    def settle(self, ref: InstanceRef, seq: int, due: int, then: int | None) -> bool:
        """Replace exactly the entry `due`, if the header is still the one of record `seq`; else False, no change."""
        return (self._opened or self._open()).settle(ref, seq, due, then)

    def due(self, until: int, limit: int) -> builtins.list[Due]:
        """Up to `limit` entries of all tenants with `due <= until`, earliest first."""
        return (self._opened or self._open()).due(until, limit)

    def list(
        self,
        tenant: str,
        workflow: str | None = None,
        statuses: Sequence[str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """One page of the tenant's instances, newest first.

        Raises `CallerError` for a cursor that this listing did not give out, or a limit below 1.
        """
        if limit < 1:
            raise CallerError(f"A page needs a limit of at least 1, not {limit}.")
        return (self._opened or self._open()).list(tenant, workflow, statuses, limit, cursor)

    # --- life cycle --------------------------------------------------------------------------------------

    def purge(self, ref: InstanceRef, seq: int) -> bool:
        """Remove all of an instance whose newest record is `seq`; False, nothing removed, if it is not.

        If it is interrupted, the same call finishes it. A tombstone stays for a day (PROTOCOL rule 20).
        """
        return (self._opened or self._open()).purge(ref, seq)

    def ensure(self, location: str | None = None) -> None:
        """Create what is absent of the database (at `location`, such as "eur3"), its indexes and exemptions.

        For development: it waits until they are built, which takes minutes, and needs roles/datastore.owner. The
        emulator needs none of them.
        """
        instances = self._opened or self._open()
        if not instances.wire.emulated:
            from flux_gcp.firestore_ensure import admin_client, ensure

            ensure(admin_client(self._credentials), instances.wire.names.database, self.settings, location)

    def close(self) -> None:
        """Release the connection; calls that are under way and later ones raise `StorageUnavailable`."""
        with self._opening:
            self._closed = True
            if self._opened is not None:
                self._opened.wire.close()

    def _open(self) -> Instances:
        """Import Google's libraries and make the client, once for all threads."""
        with self._opening:
            if self._closed:
                raise faults.was_closed(f"database {self.settings.database}")
            if self._opened is None:
                try:
                    from flux_gcp.firestore_instances import Instances
                except ImportError as error:
                    raise faults.not_installed(error) from error
                self._opened = Instances(self.settings, self._credentials)
            return self._opened
