"""What lets a request into a storage account: a token, its key, or a signature. It must not send a request."""

from __future__ import annotations

import base64
import hashlib
import hmac
from email.utils import formatdate
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flux_azure.account import Account

VERSION: Final = "2021-12-02"
"""Of the REST interface of Azure Storage."""


def target(account: Account, path: str, query: Mapping[str, str]) -> str:
    """What to ask for: the path with its query and, where that is the way in, the signature."""
    parts = [part for part in (urlencode(query), account.signature) if part]
    return f"{path}?{'&'.join(parts)}" if parts else path


def headers(
    account: Account, verb: str, path: str, query: Mapping[str, str], *, length: int = 0, kind: str = ""
) -> dict[str, str]:
    """The headers of a request with a body of `length` bytes of that content type; an identity's token comes beside."""
    date = formatdate(usegmt=True)
    made = {"x-ms-date": date, "x-ms-version": VERSION}
    if kind:
        made["Content-Type"] = kind
    if account.token:
        made["Authorization"] = f"Bearer {account.token}"
    elif account.key:
        # Verb, encoding, language, length, MD5, type, date, four conditions and range; then headers and resource.
        lines = (verb, "", "", str(length) if length else "", "", kind, "", "", "", "", "", "")
        named = "".join(f"\n{name}:{query[name]}" for name in sorted(query))
        text = "\n".join((*lines, f"x-ms-date:{date}", f"x-ms-version:{VERSION}", f"/{account.name}{path}{named}"))
        digest = hmac.new(base64.b64decode(account.key), text.encode(), hashlib.sha256).digest()
        made["Authorization"] = f"SharedKey {account.name}:{base64.b64encode(digest).decode()}"
    return made
