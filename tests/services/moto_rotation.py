"""How Secrets Manager begins a rotation, which moto would do in a container: a test invokes the function."""

from __future__ import annotations

import json
import time
from typing import Any, Final

from moto.moto_api._internal import mock_random
from moto.secretsmanager.exceptions import InvalidRequestException
from moto.secretsmanager.models import SecretsManagerBackend

PENDING: Final = "AWSPENDING"
CURRENT: Final = "AWSCURRENT"


def teach() -> None:
    """Let `rotate_secret` make a pending version without a text, and the default version be the current one."""
    backends: Any = SecretsManagerBackend
    move = backends.update_secret_version_stage

    def begin(
        backend: Any,
        secret_id: str,
        client_request_token: str | None = None,
        rotation_lambda_arn: str | None = None,
        rotation_rules: dict[str, Any] | None = None,
        rotate_immediately: bool = True,
    ) -> str:
        secret = backend.secrets[secret_id]
        for version in secret.versions.values():
            if PENDING in version["version_stages"] and CURRENT not in version["version_stages"]:
                raise InvalidRequestException("A previous rotation isn't complete. That rotation will be reattempted.")
        if rotation_lambda_arn:
            secret.rotation_lambda_arn = rotation_lambda_arn
        if rotation_rules:
            secret.auto_rotate_after_days = int(rotation_rules["AutomaticallyAfterDays"])
        secret.rotation_requested = secret.rotation_enabled = True
        token = client_request_token or str(mock_random.uuid4())
        if rotate_immediately:
            secret.remove_version_stages_from_old_versions([PENDING])
            secret.versions[token] = {
                "createdate": int(time.time()),
                "version_id": token,
                "version_stages": [PENDING],
            }
        return json.dumps({"ARN": secret.arn, "Name": secret.name, "VersionId": token})

    def move_and_remember(
        backend: Any, secret_id: str, version_stage: str, remove_from_version_id: str, move_to_version_id: str
    ) -> Any:
        told = move(backend, secret_id, version_stage, remove_from_version_id, move_to_version_id)
        if version_stage == CURRENT:
            backend.secrets[secret_id].set_default_version_id(move_to_version_id)
        return told

    backends.rotate_secret = begin
    backends.update_secret_version_stage = move_and_remember
