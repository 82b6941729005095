"""Asks a deployed function over HTTP what it finds of itself. It must not know a cloud, nor judge the answer."""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import TYPE_CHECKING, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from flux_core.doctor import FAILURE, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SUBJECT: Final = "asked itself"
_PATIENCE: Final = 60.0
"""Seconds: it may have to start first."""
_SHOWN: Final = 300
"""Characters of an answer that is none of Flux's."""
_ADVICE: Final = {
    401: "It wants to know who asks: --header says it",
    403: "Whoever asks may not: --header says who does",
    404: (
        "There is no Flux at that address, or one that is older than the doctor (see docs/http.md for its routes), or "
        "it takes calls from inside its cloud only"
    ),
}


def asked(address: str, part: str, headers: Mapping[str, str]) -> Iterator[Finding]:
    """What the function at `address` (where its routes begin) finds with its own permissions, as that part."""
    body = json.dumps({"action": "doctor", "part": part}).encode()
    request = Request(  # noqa: S310 -- the command line has checked that it is HTTP
        f"{address.rstrip('/')}/invoke", body, {"Content-Type": "application/json", **headers}, method="POST"
    )
    try:
        with urlopen(request, timeout=_PATIENCE) as answer:  # noqa: S310 -- likewise
            text = answer.read()
    except HTTPError as error:
        with error:
            said = error.read()[:_SHOWN].decode(errors="replace")
        advice = _ADVICE.get(error.code, "Its log says more")
        yield Finding(SUBJECT, FAILURE, f"{address} answered {error.code}: {said or error.reason}. {advice}")
        return
    except (OSError, HTTPException) as error:
        yield Finding(SUBJECT, FAILURE, f"{address} did not answer ({error}): check the address")
        return
    try:
        found = [Finding.from_tree(tree) for tree in json.loads(text)["findings"]]
    except (ValueError, KeyError, TypeError):
        said = text[:_SHOWN].decode(errors="replace")
        yield Finding(SUBJECT, FAILURE, f"{address} answered what is no doctor's: {said}. Check the address")
        return
    yield from found
