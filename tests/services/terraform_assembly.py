"""A provider's schema out of the assembly of its package for the Cloud Development Kit. It must not fetch anything.

The kit's classes are generated from the schema, and their documentation says for each property which argument or block
it is: so the way back is known. What is made: by resource and data source its attributes, with type and whether they
are needed or only computed, and its blocks, with how many there may be.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME: Final = re.compile(r"#([\w-]+)[ }]")
_DOCS: Final = re.compile(r"providers/[\w-]+/[\w-]+/([\d.]+)/docs(?:/[\w-]+/[\w-]+)? (\w+)\}")
_PRIMITIVES: Final = {"string": "string", "number": "number", "boolean": "bool"}
_KINDS: Final = {"cdktf.TerraformResource": "resources", "cdktf.TerraformDataSource": "data"}
_PROVIDER: Final = "cdktf.TerraformProvider"


class _Of(str):
    """The name of a class whose properties make the type up."""

    __slots__ = ()


class _Many(_Of):
    """The same, any number of times."""

    __slots__ = ()


def schema_of(assembly: Mapping[str, Any]) -> dict[str, Any]:
    """The schema: `version`, `provider`, `resources`, `data`."""
    return _Assembly(assembly["types"]).schema()


class _Assembly:
    def __init__(self, types: Mapping[str, Any]) -> None:
        self._types = types

    def schema(self) -> dict[str, Any]:
        made: dict[str, Any] = {"version": None, "provider": None, "resources": {}, "data": {}}
        for name, one in self._types.items():
            base = one.get("base")
            if one["kind"] != "class" or base not in {*_KINDS, _PROVIDER} or f"{name}Config" not in self._types:
                continue
            docs = one.get("docs", {})
            told = _DOCS.search(docs.get("remarks", "") + docs.get("summary", ""))
            assert told is not None, name
            made["version"] = made["version"] or told[1]
            if base == _PROVIDER:
                made["provider"] = self._block(f"{name}Config", {})
                continue
            block = self._block(f"{name}Config", self._computed(one, f"{name}Config"))
            block["attrs"].setdefault("id", {"type": "string", "required": False})
            made[_KINDS[base]][told[2]] = block
        return made

    def _properties(self, name: str) -> list[dict[str, Any]]:
        return list(self._types[name].get("properties", []))

    def _computed(self, owner: Mapping[str, Any], settings: str) -> dict[str, Any]:
        """What can only be read."""
        written = {one["name"] for one in self._properties(settings)}
        found = {}
        for one in owner.get("properties", []):
            name = one["name"]
            hidden = one.get("static") or name.endswith("Input") or name in {"internalValue", "fqn"}
            if not hidden and name not in written:
                kind = self._type(one["type"])
                found[_snake(name)] = "dynamic" if isinstance(kind, _Of) else kind
        return found

    def _block(self, name: str, computed: Mapping[str, Any] | None = None) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        blocks: dict[str, Any] = {}
        for one in self._properties(name):
            argument, kind, needed = _argument(one), self._type(one["type"]), not one.get("optional")
            summary = one.get("docs", {}).get("summary", "")
            if isinstance(kind, _Of) and summary.rstrip() == f"{argument} block.":
                most = 0 if isinstance(kind, _Many) else 1
                blocks[argument] = {"min": int(needed), "max": most, "block": self._block(kind)}
            else:
                whole = self._object(kind, frozenset()) if isinstance(kind, _Of) else kind
                attributes[argument] = {
                    "type": ["list", whole] if isinstance(kind, _Many) else whole,
                    "required": needed,
                }
        if computed is None:
            reference = self._types.get(f"{name}OutputReference")
            computed = {} if reference is None else self._computed(reference, name)
        for argument, kind in computed.items():
            if argument not in blocks:
                attributes.setdefault(argument, {"type": kind, "computed_only": True})
        return {"attrs": attributes, "blocks": blocks}

    def _type(self, given: Mapping[str, Any]) -> Any:
        """Terraform's type, or the class that it is made up of."""
        if "union" in given:
            others = [one for one in given["union"]["types"] if one.get("fqn") != "cdktf.IResolvable"]
            return self._type(others[0]) if others else "dynamic"
        if "primitive" in given:
            return _PRIMITIVES.get(given["primitive"], "dynamic")
        if "collection" in given:
            of = self._type(given["collection"]["elementtype"])
            if isinstance(of, _Of):
                return _Many(of)
            return ["map" if given["collection"]["kind"] == "map" else "list", of]
        name = given.get("fqn", "cdktf.")
        return "dynamic" if name.startswith("cdktf.") else _Of(name)

    def _object(self, name: str, above: frozenset[str]) -> Any:
        if name in above:
            return "dynamic"
        members: dict[str, Any] = {}
        for one in self._properties(name):
            kind = self._type(one["type"])
            whole = self._object(kind, above | {name}) if isinstance(kind, _Of) else kind
            members[_argument(one)] = ["list", whole] if isinstance(kind, _Many) else whole
        return ["object", members, sorted(members)]


def _argument(property_: Mapping[str, Any]) -> str:
    found = _NAME.search(property_.get("docs", {}).get("remarks", ""))
    return found[1] if found else _snake(property_["name"])


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", lambda upper: f"_{upper[1].lower()}", name).lower()
