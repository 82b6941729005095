"""A codec that never gives the same bytes twice, and notices bytes that were moved or changed."""

from __future__ import annotations

from hashlib import sha256
from itertools import count


class Scrambled:
    """It stands for encryption: what it makes says nothing of what is in it, is never the same, and knows its place."""

    def __init__(self) -> None:
        self._count = count(1)

    def encode(self, data: bytes, context: bytes) -> bytes:
        salt = next(self._count).to_bytes(8, "big")
        return salt + _sum(salt, data, context) + _turned(data, salt)

    def decode(self, data: bytes, context: bytes) -> bytes:
        salt, sum_, turned = data[:8], data[8:16], data[16:]
        plain = _turned(turned, salt)
        if _sum(salt, plain, context) != sum_:
            message = "the sum does not fit"
            raise ValueError(message)
        return plain


def _sum(salt: bytes, data: bytes, context: bytes) -> bytes:
    return sha256(salt + context + b"\n" + data).digest()[:8]


def _turned(data: bytes, salt: bytes) -> bytes:
    key = sha256(salt).digest()[0]
    return data.translate(bytes(value ^ key for value in range(256)))
