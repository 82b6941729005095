"""A stack of CloudFormation on a moto server: made of a translated template, and asked for what became of it."""

from __future__ import annotations

import io
import json
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.infra import sam

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.services.moto import Moto


class Stack(NamedTuple):
    """A stack that is there."""

    name: str
    server: Moto

    @classmethod
    def create(cls, server: Moto, name: str, template: Mapping[str, Any], **parameters: object) -> Stack:
        """Make it; `parameters` are the template's. Raises what AWS would, with moto's words."""
        stack = cls(name, server)
        s3 = stack.client("s3")
        with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(
                Bucket=sam.ARTIFACTS, CreateBucketConfiguration={"LocationConstraint": server.environment["AWS_REGION"]}
            )
        s3.put_object(Bucket=sam.ARTIFACTS, Key=sam.PACKAGE, Body=package())
        stack.client("cloudformation").create_stack(
            StackName=name,
            TemplateBody=json.dumps(template),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": str(value)} for key, value in parameters.items()],
        )
        (told,) = stack.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        assert told["StackStatus"] == "CREATE_COMPLETE", told.get("StackStatusReason")
        return stack

    def client(self, service: str) -> Any:
        """boto3's client of a service."""
        import boto3

        given = self.server.environment
        return boto3.client(
            service,
            endpoint_url=self.server.endpoint,
            region_name=given["AWS_REGION"],
            aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        )

    def speak_plain_http(self, bucket: str) -> None:
        """The server does, and a policy of the bucket's refuses it: take the policy away."""
        self.client("s3").delete_bucket_policy(Bucket=bucket)

    def made(self) -> dict[str, str]:
        """By logical id, what each resource is called now. moto tells those of a false condition too, without an id."""
        found = self.client("cloudformation").describe_stack_resources(StackName=self.name)["StackResources"]
        return {
            one["LogicalResourceId"]: one.get("PhysicalResourceId", "") for one in found if "LogicalResourceId" in one
        }

    def outputs(self) -> dict[str, str]:
        """The stack's outputs."""
        (told,) = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        return {one["OutputKey"]: one["OutputValue"] for one in told["Outputs"]}


def package() -> bytes:
    """The code of the functions, as the template's folder has it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(sam.FOLDER / "src" / "app.py", "app.py")
    return buffer.getvalue()
