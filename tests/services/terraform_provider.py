"""`python terraform_provider.py SCHEMA SOURCE`: a provider that serves a schema, for `validate` and `test` with mocks.

It makes nothing and asks nobody: Terraform's own mocks play the resources. It runs in an environment that has the
package `tf` (tests.services.terraform_schemas), and imports nothing of this project.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import tf.provider
import tf.runner
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc

WRITE_ONLY = b"\x58\x01"
"""The field `write_only = 11` of an attribute, set: the package's protocol is older than it."""


def attribute(name: str, told: dict[str, Any]) -> pb.Schema.Attribute:
    """An attribute as the protocol has it."""
    how = {"required": True} if told.get("required") else {"computed": True}
    write_only = name.endswith("_wo")
    if not told.get("required") and not told.get("computed_only"):
        how = {"optional": True, "computed": not write_only}
    made = pb.Schema.Attribute(name=name, type=json.dumps(told["type"]).encode(), **how)
    if write_only:
        made.MergeFromString(WRITE_ONLY)
    return made


def nested(name: str, told: dict[str, Any]) -> pb.Schema.NestedBlock:
    """A block inside another."""
    if name == "timeouts":
        return pb.Schema.NestedBlock(type_name=name, block=block(told["block"]), nesting=pb.Schema.NestedBlock.SINGLE)
    return pb.Schema.NestedBlock(
        type_name=name,
        block=block(told["block"]),
        nesting=pb.Schema.NestedBlock.LIST,
        min_items=told["min"],
        max_items=told["max"],
    )


def block(told: dict[str, Any]) -> pb.Schema.Block:
    """Attributes and blocks."""
    return pb.Schema.Block(
        attributes=[attribute(name, one) for name, one in sorted(told["attrs"].items())],
        block_types=[nested(name, one) for name, one in sorted(told["blocks"].items())],
    )


class Provider(rpc.ProviderServicer):  # type: ignore[misc]
    """What Terraform asks before its mocks take over."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema

    def GetMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the protocol's names
        return pb.GetMetadata.Response(
            resources=[pb.GetMetadata.ResourceMetadata(type_name=name) for name in self._schema["resources"]],
            data_sources=[pb.GetMetadata.DataSourceMetadata(type_name=name) for name in self._schema["data"]],
        )

    def GetProviderSchema(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.GetProviderSchema.Response(
            provider=pb.Schema(block=block(self._schema["provider"])),
            resource_schemas={name: pb.Schema(block=block(one)) for name, one in self._schema["resources"].items()},
            data_source_schemas={name: pb.Schema(block=block(one)) for name, one in self._schema["data"].items()},
        )

    def ValidateProviderConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ConfigureProvider.Response()

    def UpgradeResourceState(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.UpgradeResourceState.Response(upgraded_state=pb.DynamicValue(json=request.raw_state.json))

    def GetFunctions(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.GetFunctions.Response()

    def StopProvider(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.StopProvider.Response()


class Named:
    """All that the package asks of a provider of its own kind."""

    def full_name(self) -> str:
        """Its address."""
        return f"registry.terraform.io/{sys.argv[2]}"


def main() -> None:
    """Serve until Terraform ends it."""
    file = Path(sys.argv[1])
    raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    schema = json.loads(raw)
    wanted = {*os.environ.get("FLUX_TERRAFORM_TYPES", "").split(",")} - {""}
    if wanted:  # a provider has a thousand, which takes Terraform seconds to read each time
        for kind in ("resources", "data"):
            schema[kind] = {name: one for name, one in schema[kind].items() if name in wanted}
    tf.provider.ProviderServicer = lambda _named: Provider(schema)
    tf.runner.run_provider(Named(), sys.argv[:1])


if __name__ == "__main__":
    main()
