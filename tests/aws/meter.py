"""What requests cost, by the rules that AWS publishes, measured at the client: moto bills nothing.

- Sizes: names of attributes, UTF-8 of strings, raw bytes, about a byte for two digits and one more
  (developer guide, "Item sizes and formats").
- A write costs the larger of the item before and after, in KB begun; in a transaction twice that, to prepare and to
  commit ("Amazon DynamoDB transactions: how it works"). A condition that fails costs as much as what was found.
- A global index: one write to put an entry in, to take it out, or to change what it shows; two if its key changes
  ("Using global secondary indexes"). An index follows asynchronously, after the transaction: it is not doubled.
- A consistent read costs a unit for 4 KB begun, an eventually consistent one half of it; a query by the sum of what it
  reads, before a projection or a filter.

It sees the items through a connection of its own, before and after each request, so it serves one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from flux_aws.dynamodb_items import size
from flux_aws.dynamodb_table import DESCRIPTION

if TYPE_CHECKING:
    from flux_aws import DynamoDBStorage

KB = 1024


class Request(NamedTuple):
    """One request as it was billed."""

    operation: str
    write_units: int
    read_units: float


class Meter:
    """Watches the client of one store, whose items it reads through `onlooker`, another store on the same table."""

    def __init__(self, store: DynamoDBStorage, onlooker: DynamoDBStorage) -> None:
        self.requests: list[Request] = []
        self.sizes: list[int] = []
        """Bytes of each log item written."""
        self._looks = onlooker.client
        self._table = store.table
        self._before: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}
        events = store.client.meta.events
        events.register("provide-client-params.dynamodb.*", self._on_parameters)
        events.register("after-call.dynamodb.*", self._on_answer)

    def take(self) -> list[Request]:
        """The requests since the last time."""
        taken, self.requests = self.requests, []
        return taken

    @property
    def write_units(self) -> int:
        return sum(request.write_units for request in self.requests)

    @property
    def read_units(self) -> float:
        return sum(request.read_units for request in self.requests)

    def _on_parameters(self, params: dict[str, Any], model: Any, **_: object) -> None:
        self._asked = params
        looked = [] if model.name in {"Query", "GetItem", "PutItem"} else self._keys(params)
        self._before = {str(key): self._look(key) for key in looked}

    def _on_answer(self, parsed: dict[str, Any], model: Any, **_: object) -> None:
        name = model.name
        if name in {"Query", "GetItem"}:
            self.requests.append(Request(name, 0, self._read(parsed)))
            return
        if name == "PutItem" and "Error" not in parsed:  # on the condition that nothing is there
            assert self._asked["ConditionExpression"] == "attribute_not_exists(PK)"
            put = self._asked["Item"]
            self._written(put)
            self.requests.append(Request(name, _begun(size(put)), 0))
            return
        twice = 2 if name == "TransactWriteItems" else 1
        units = 0
        for key in self._keys(self._asked):
            after = self._look(key)
            before = self._before.get(str(key), after)
            units += twice * max(1, _begun(max(size(before), size(after))))
            units += sum(_index_units(index, before, after) for index in DESCRIPTION["GlobalSecondaryIndexes"])
            if not before:
                self._written(after)
        self.requests.append(Request(name, units, 0))

    def _written(self, item: dict[str, Any]) -> None:
        if item.get("SK", {}).get("S", "").startswith("L#"):
            self.sizes.append(size(item))

    def _keys(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        parts = [next(iter(part.values())) for part in params.get("TransactItems", ())] or [params]
        asked = [part.get("Key") or part.get("Item") for part in parts]
        return [{"PK": item["PK"], "SK": item["SK"]} for item in asked if item]

    def _look(self, key: dict[str, Any]) -> dict[str, Any]:
        found = self._looks.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        return dict(found.get("Item") or {})

    def _read(self, parsed: dict[str, Any]) -> float:
        items = parsed["Items"] if "Items" in parsed else [parsed["Item"]] if "Item" in parsed else []
        units = max(1, -(-sum(map(size, items)) // (4 * KB)))
        return units if self._asked.get("ConsistentRead") else units / 2


def _begun(bytes_: int) -> int:
    return -(-bytes_ // KB)


def _index_units(index: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> int:
    keys = [key["AttributeName"] for key in index["KeySchema"]]
    shown = ["PK", "SK", *keys, *index["Projection"].get("NonKeyAttributes", ())]
    entries = [
        {name: item[name] for name in shown if name in item} if all(key in item for key in keys) else {}
        for item in (before, after)
    ]
    old, new = entries
    if old == new:
        return 0
    if old and new and [old[key] for key in keys] == [new[key] for key in keys]:
        return _begun(max(size(old), size(new)))
    return _begun(size(old)) + _begun(size(new))
