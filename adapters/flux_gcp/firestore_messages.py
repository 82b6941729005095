"""Firestore's messages: writes with their conditions, values, queries. It must not send one.

The classes are those of google-cloud-firestore without its wrappers, which double the cost of a commit. Importing this
takes some 0.4 s, so it is imported when a store is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.cloud.firestore_v1.types import common, document, firestore, query, write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Message = Any  # made at run time: the classes have no types

CommitRequest = firestore.CommitRequest.pb()
CommitResponse = firestore.CommitResponse.pb()
BatchGetRequest = firestore.BatchGetDocumentsRequest.pb()
BatchGetResponse = firestore.BatchGetDocumentsResponse.pb()
RunQueryRequest = firestore.RunQueryRequest.pb()
RunQueryResponse = firestore.RunQueryResponse.pb()
Write = write.Write.pb()
Document = document.Document.pb()
Value = document.Value.pb()
ArrayValue = document.ArrayValue.pb()
Precondition = common.Precondition.pb()
DocumentMask = common.DocumentMask.pb()
Query = query.StructuredQuery.pb()
Cursor = query.Cursor.pb()

EQUAL: Final[int] = Query.FieldFilter.EQUAL
IN: Final[int] = Query.FieldFilter.IN
UP_TO: Final[int] = Query.FieldFilter.LESS_THAN_OR_EQUAL
_ABSENT: Final = Precondition(exists=False)

# --- writes and values -----------------------------------------------------------------------------------------


def create(name: str, fields: Mapping[str, Message]) -> Message:
    """A write of a document that must not be there."""
    return Write(update=Document(name=name, fields=fields), current_document=_ABSENT)


def along(name: str, fields: Mapping[str, Message]) -> Message:
    """A write of a whole document, whatever is there, if the conditions of the rest of its commit hold."""
    return Write(update=Document(name=name, fields=fields))


def replace(name: str, fields: Mapping[str, Message], seen: Message) -> Message:
    """A write of a whole document unless it was changed since it was `seen`."""
    return Write(update=Document(name=name, fields=fields), current_document=Precondition(update_time=seen.update_time))


def change(name: str, fields: Mapping[str, Message], seen: Message, touched: Sequence[str]) -> Message:
    """A write of some fields (those `touched` and not given are removed) of a document unless it was changed since."""
    return Write(
        update=Document(name=name, fields=fields),
        update_mask=DocumentMask(field_paths=touched),
        current_document=Precondition(update_time=seen.update_time),
    )


def delete(name: str) -> Message:
    """A removal, if the conditions of the rest of its commit hold."""
    return Write(delete=name)


def number(value: int) -> Message:
    """An integer field."""
    return Value(integer_value=value)


def text(value: str) -> Message:
    """A text field."""
    return Value(string_value=value)


def raw(value: bytes) -> Message:
    """A field of bytes."""
    return Value(bytes_value=value)


def flag(value: bool) -> Message:  # noqa: FBT001 -- it is the value itself
    """A field that is true or false."""
    return Value(boolean_value=value)


def moment(seconds: int) -> Message:
    """A field of time, in seconds since the epoch."""
    value = Value()
    value.timestamp_value.seconds = seconds
    return value


def any_of(values: Iterable[Message]) -> Message:
    """A list, for a filter."""
    return Value(array_value=ArrayValue(values=values))


def reference(name: str) -> Message:
    """The name of a document, for a cursor."""
    return Value(reference_value=name)


# --- queries ---------------------------------------------------------------------------------------------------


def by_name(collection: str, limit: int = 0, *, after: str = "", until: str = "", names_only: bool = False) -> Message:
    """The documents of a collection in the order of their names, from behind `after` up to `until` itself."""
    question = _from(collection, limit)
    _order(question, "__name__", down=False)
    if after:
        question.start_at.CopyFrom(Cursor(values=[reference(after)], before=False))
    if until:
        question.end_at.CopyFrom(Cursor(values=[reference(until)], before=False))
    if names_only:
        question.select.fields.add().field_path = "__name__"
    return question


def by_fields(
    collection: str,
    filters: Sequence[tuple[str, int, Message]],
    order: Sequence[tuple[str, bool]],
    limit: int,
    after: Sequence[Message] = (),
) -> Message:
    """Documents for which all `filters` (field, operator, value) hold, in an `order` of (field, downwards)."""
    question = _from(collection, limit)
    question.where.composite_filter.op = Query.CompositeFilter.AND
    for path, operator, value in filters:
        clause = question.where.composite_filter.filters.add().field_filter
        clause.field.field_path = path
        clause.op = operator
        clause.value.CopyFrom(value)
    for path, down in order:
        _order(question, path, down=down)
    if after:
        question.start_at.CopyFrom(Cursor(values=after, before=False))
    return question


def _from(collection: str, limit: int) -> Message:
    question = Query()
    question.from_.add().collection_id = collection
    if limit:
        question.limit.value = min(limit, 2**31 - 1)
    return question


def _order(question: Message, path: str, *, down: bool) -> None:
    term = question.order_by.add()
    term.field.field_path = path
    term.direction = Query.DESCENDING if down else Query.ASCENDING
