"""Hashes that become keys: idempotency keys, mail ids, the hash of an input. Fields are length-prefixed."""

from __future__ import annotations


def _hash(*fields: str) -> str:
    from hashlib import sha256

    digest = sha256()
    for field in fields:
        raw = field.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(raw))
        digest.update(raw)
    return digest.hexdigest()[:32]


def sha256(data: bytes) -> str:
    """The SHA-256 of bytes as 64 hexadecimal digits: the name of a payload (PROTOCOL rule 13)."""
    from hashlib import sha256 as digest

    return digest(data).hexdigest()


def idempotency_key(tenant: str, workflow: str, id: str, path: str, k: int) -> str:
    """32 hexadecimal digits, the same over crashes and automatic retries of the step at `path`.

    `k` counts the recorded successes of that path that were since undone or discarded (PROTOCOL, Idempotency key).
    """
    return _hash(tenant, workflow, id, path, str(k))


def mail_id(dedupe_id: str) -> str:
    """A de-duplication id as a storage key."""
    return _hash(dedupe_id)


def content_hash(text: str) -> str:
    """The hash of a canonical text: tells whether two inputs are the same (PROTOCOL rule 19)."""
    return _hash(text)
