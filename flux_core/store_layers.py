"""What the `payloads=` and `codec=` of a user make of his store. It must not do anything but put layers in order."""

from __future__ import annotations

from flux_core.errors import DefinitionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flux_core.ports import Clock, Codec, Entropy, PayloadStorage, WorkflowStorage


def layered(
    storage: WorkflowStorage,
    payloads: PayloadStorage | None,
    codec: Codec | None,
    inline: int,
    longest_purge: float,
    clock: Clock,
    entropy: Entropy,
) -> WorkflowStorage:
    """`storage` itself, or within the layers asked for: encoded first, so that payloads are encoded as well.

    `DefinitionError` for what is no payload storage or no codec.
    """
    if payloads is not None:
        if isinstance(payloads, type) or not hasattr(payloads, "get") or not hasattr(payloads, "purge"):
            message = f'payloads must be a payload storage, such as FolderPayloads("payloads"); got {payloads!r}'
            raise DefinitionError(message)
        from flux_core.claim_check import ClaimCheckStorage

        storage = ClaimCheckStorage(
            storage, payloads, inline, longest_purge=longest_purge, clock=clock, entropy=entropy
        )  # fmt: skip
    if codec is not None:
        if isinstance(codec, type) or not hasattr(codec, "encode") or not hasattr(codec, "decode"):
            message = f"codec must have encode(data, context) and decode(data, context); got {codec!r}"
            raise DefinitionError(message)
        from flux_core.encoding import EncodedStorage

        storage = EncodedStorage(storage, codec)
    return storage
