"""Listing instances from the sharded list index: every shard of every group, merged by time. It must not write.

An instance that ends moves from one group to another. So a page reads the group of those that run first, whole, then
those that it can have moved to, and the first once more for one that a retry brought back: it is met before or after
it moved, and told once. The index itself is consistent only in the end; that is the lag that the port allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flux_aws.dynamodb_items import ACTIVE, GROUPS, LIST_INDEX, group, header_of, instance, list_key, list_partition
from flux_core.cursor import ListKey, decode_cursor, encode_cursor
from flux_core.errors import CallerError
from flux_core.ports import Listed, Page

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flux_aws.dynamodb_items import Item
    from flux_aws.dynamodb_requests import Requests


def page(
    requests: Requests,
    shards: int,
    tenant: str,
    workflow: str | None,
    statuses: Sequence[str] | None,
    limit: int,
    cursor: str | None,
) -> Page:
    """One page, newest first. Raises `CallerError` for a cursor of something else, or a limit below 1."""
    if limit < 1:
        raise CallerError(f"A page needs a limit of at least 1, not {limit}.")
    after = None if cursor is None else decode_cursor(tenant, cursor)
    asked = set(GROUPS if statuses is None else map(group, statuses))
    wanted = [one for one in GROUPS if one in asked]
    if wanted[:1] == [ACTIVE] and len(wanted) > 1:
        wanted.append(ACTIVE)
    found: dict[ListKey, Listed] = {}
    for one in wanted:
        for number in range(shards):
            query = _query(list_partition(tenant, one, number), after, workflow, statuses)
            for listed in _first(requests, query, limit + 1):
                key = ListKey(listed.header.created_at, listed.ref.id, listed.ref.workflow)
                known = found.get(key)
                if known is None or known.header.seq <= listed.header.seq:
                    found[key] = listed
    keys = sorted((key for key in found if after is None or key < after), reverse=True)
    items = [found[key] for key in keys[:limit]]
    return Page(items, encode_cursor(tenant, keys[limit - 1]) if len(keys) > limit else None)


def _query(
    partition: str, after: ListKey | None, workflow: str | None, statuses: Sequence[str] | None
) -> dict[str, Any]:
    condition, values = "LP = :p", {":p": {"S": partition}}
    if after is not None:
        condition += " AND LS < :a"
        values[":a"] = {"S": list_key(after)}
    filters: list[str] = []
    if workflow is not None:
        filters.append("w = :w")
        values[":w"] = {"S": workflow}
    if statuses is not None:
        names = {f":s{place}": {"S": status} for place, status in enumerate(dict.fromkeys(statuses))}
        filters.append(f"st IN ({', '.join(names)})")
        values |= names
    query: dict[str, Any] = {
        "IndexName": LIST_INDEX,
        "KeyConditionExpression": condition,
        "ExpressionAttributeValues": values,
        "ScanIndexForward": False,
    }
    return query | {"FilterExpression": " AND ".join(filters)} if filters else query


def _first(requests: Requests, query: dict[str, Any], count: int) -> Iterator[Listed]:
    """The first `count` entries of one shard. A filter drops entries after they were counted: then no page is cut."""
    for items in requests.query(query, None if "FilterExpression" in query else count):
        for item in items:
            yield _listed(item)
            count -= 1
            if count == 0:
                return


def _listed(item: Item) -> Listed:
    return Listed(instance(item["PK"]["S"]), header_of(item))
