"""What errors of AWS have in common, whichever service they are of. It must not import boto3, nor call AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import Any

CREDENTIALS: Final = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "TokenRetrievalError",
        "SSOTokenLoadError",
        "UnauthorizedSSOTokenError",
        "ProfileNotFound",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "IncompleteSignature",
        "MissingAuthenticationTokenException",
        "ExpiredTokenException",
        "ExpiredToken",
    }
)
"""Codes and exceptions of the SDK that mean: nobody knows who asks."""
DENIED: Final = frozenset({"AccessDeniedException", "AccessDenied"})
"""Codes that mean: whoever asks may not."""


def code_of(error: Exception) -> str:
    """AWS's code of an error, or the name of the SDK's own exception."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", "")) or type(error).__name__


def names_of(error: Exception) -> frozenset[str]:
    """The code, and the names of the SDK's classes that the error is of."""
    return frozenset({code_of(error), *(kind.__name__ for kind in type(error).__mro__)})
