"""The opaque cursor of a listing: the key of the last entry told, bound to its tenant. It must not know any store.

Stores that page by key share it, so that a cursor that is cut, made up or of another tenant is refused with the
same words everywhere. A cursor is not a secret: it holds only what the listing itself showed.
"""

from __future__ import annotations

from flux_core.errors import CallerError
from flux_core.tuples import NamedTuple

_FORM = "flux-list-1"
_LARGEST = 2**63 - 1


class ListKey(NamedTuple):
    """The order of a listing, largest first: creation time in milliseconds, then id, then workflow."""

    created_at: int
    id: str
    workflow: str


def encode_cursor(tenant: str, last: ListKey) -> str:
    """The cursor that continues after `last`; only letters, digits, `-`, `_` and `=`."""
    from base64 import urlsafe_b64encode
    from json import dumps

    return urlsafe_b64encode(dumps([_FORM, tenant, *last], separators=(",", ":")).encode()).decode()


def decode_cursor(tenant: str, cursor: str) -> ListKey:
    """The key that `cursor` stands for; raises `CallerError` if it was not made by `encode_cursor` for `tenant`."""
    from base64 import urlsafe_b64decode
    from json import loads

    try:
        found = loads(urlsafe_b64decode(cursor.encode("ascii")))
    except (ValueError, RecursionError):  # also covers binascii.Error and both Unicode errors
        found = None
    match found:
        case [str(form), str(owner), int(created_at), str(id), str(workflow)] if (
            form == _FORM and abs(created_at) <= _LARGEST
        ):
            if owner == tenant:
                return ListKey(created_at, id, workflow)
            raise CallerError(
                f"This cursor belongs to a listing of another tenant, not of {tenant!r}. "
                "Start the listing again without a cursor."
            )
    raise CallerError(
        f"{cursor[:80]!r} is not a cursor of this store. Pass `Page.cursor` of the page before, unchanged, "
        "or start the listing again without a cursor."
    )
