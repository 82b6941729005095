"""The one place where an error of AWS becomes an error of the kit. It must not call AWS, nor import boto3.

What passes by itself or after an operator's help is `StorageUnavailable` (the platform runs the invocation again).
Codes: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flux_aws.faults import CREDENTIALS, DENIED, code_of, names_of
from flux_aws.settings import ENDPOINT, REGION, TABLE
from flux_core.errors import DefinitionError, FluxError, PayloadTooLarge, StorageUnavailable

if TYPE_CHECKING:
    from typing import Any

CONDITION: Final = "ConditionalCheckFailedException"
CANCELED: Final = "TransactionCanceledException"
MISSING: Final = "ResourceNotFoundException"

_THROTTLED: Final = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "ProvisionedThroughputExceeded",
        "RequestLimitExceeded",
        "ThrottlingException",
        "ThrottlingError",
        "Throttling",
        "TooManyRequestsException",
        "SlowDown",
    }
)
_CONFLICT: Final = frozenset(
    {
        "TransactionConflictException",
        "TransactionConflict",
        "TransactionInProgressException",
        "ReplicatedWriteConflictException",
    }
)
_SERVER: Final = frozenset({"InternalServerError", "InternalFailure", "ServiceUnavailable", "RequestTimeout"})
_NO_ANSWER: Final = frozenset(
    {
        "ConnectionClosedError",
        "ConnectionError",
        "ConnectTimeoutError",
        "EndpointConnectionError",
        "HTTPClientError",
        "IncompleteReadError",
        "ReadTimeoutError",
        "ResponseStreamingError",
        "SSLError",
    }
)
_NO_INDEX: Final = ("specified index", "Invalid index")
_OTHER_KEYS: Final = ("key schema element", "key element does not match the schema", "Missing the key")
_TOO_LARGE: Final = ("Item size", "item size", "size has exceeded", "4 MB")
_HTTP_SERVER_ERROR: Final = 500


def reasons_of(error: Exception) -> list[dict[str, Any]]:
    """Why a transaction was cancelled, an entry for each of its parts."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return list(response.get("CancellationReasons") or ())


def condition_failed(error: Exception) -> bool:
    """Whether it says that a condition did not hold: an answer, not a fault."""
    code = code_of(error)
    return code == CONDITION or (
        code == CANCELED and any(reason.get("Code") == "ConditionalCheckFailed" for reason in reasons_of(error))
    )


def passes(error: Exception) -> bool:
    """Whether the same request may succeed in a moment."""
    codes = _codes(error)
    if codes & (_THROTTLED | _CONFLICT | _SERVER | _NO_ANSWER):
        return True
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= _HTTP_SERVER_ERROR


def translate(error: Exception, table: str, region: str) -> FluxError:
    """The kit's error for `error` on `table`, to be raised from it."""
    codes, where, told = _codes(error), f"The workflow store (DynamoDB table {table!r}, {region})", f"(AWS: {error})"
    if codes & _THROTTLED:
        return StorageUnavailable(
            f"{where} is throttled, and still was at the end of the time that a call may take. Nothing is lost, the "
            f"invocation runs again. If it lasts, raise the table's capacity or switch it to on-demand. {told}"
        )
    if codes & _CONFLICT:
        return StorageUnavailable(f"{where} was busy with other transactions on the same instance. {told}")
    if codes & CREDENTIALS:
        return StorageUnavailable(
            f"{where} cannot be asked: AWS has no valid credentials from here. A function takes them from its role; "
            f"on your machine run `aws configure` or `aws sso login`, or set AWS_PROFILE. {told}"
        )
    if "NoRegionError" in codes:
        return StorageUnavailable(
            f"The workflow store (DynamoDB table {table!r}) cannot be found: no region is set. Set {REGION}, or pass "
            f"region= to DynamoDBStorage. {told}"
        )
    if any(part in str(error) for part in _NO_INDEX):
        return StorageUnavailable(
            f"{where} lacks an index. Deploy the table as docs/stores-dynamodb.md shows it, or let "
            f"DynamoDBStorage.ensure() make a new one. {told}"
        )
    if MISSING in codes:
        return StorageUnavailable(
            f"{where} does not exist. Check {TABLE} and {REGION} against what was deployed; for development create it "
            f'with DynamoDBStorage("{table}").ensure(). {told}'
        )
    if codes & DENIED:
        return StorageUnavailable(
            f"{where} refused the call: the role lacks a permission that AWS names below. Which role needs which: "
            f"docs/stores-dynamodb.md. {told}"
        )
    if codes & {"ValidationException", "ValidationError"} and any(part in str(error) for part in _TOO_LARGE):
        return too_large(table, "a request", str(error))
    if any(part in str(error) for part in _OTHER_KEYS):
        return StorageUnavailable(
            f"{where} is not a table of Flux: its key is another one. Set {TABLE} to the one that was deployed; "
            f'DynamoDBStorage("{table}").ensure() tells what is wrong with this one. {told}'
        )
    if codes & _NO_ANSWER:
        return StorageUnavailable(
            f"{where} did not answer in time. The call may be repeated. If it lasts, look at the network (a function "
            f"in a VPC needs an endpoint or a way out), and at {ENDPOINT} or endpoint= if one is set. {told}"
        )
    return StorageUnavailable(f"{where} refused the call or failed. What AWS says may help: {told}")


def no_endpoint(endpoint: str | None) -> DefinitionError:
    """The error for an address that is none."""
    return DefinitionError(f"{endpoint!r} ({ENDPOINT} or endpoint=) is no URL, such as http://127.0.0.1:8000.")


def not_installed(error: ImportError) -> StorageUnavailable:
    """AWS's library is not there."""
    return StorageUnavailable(
        f"DynamoDBStorage needs boto3 ({error}). Run pip install '.[aws]' in the checkout that Flux came from."
    )


def too_large(table: str, what: str, told: str) -> PayloadTooLarge:
    """The error for what no item can hold."""
    return PayloadTooLarge(
        f"{what} is too large for the DynamoDB table {table!r} ({told}; an item holds 400 KB at most). Give FluxEngine "
        f"payloads=..., which keeps what is large outside of the table, or keep less in data and outputs."
    )


def _codes(error: Exception) -> frozenset[str]:
    """Its names, and the reasons of a cancelled transaction."""
    return names_of(error) | {str(reason.get("Code")) for reason in reasons_of(error)}
