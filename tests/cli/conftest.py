"""Whatever a command prints as JSON is checked against the schema, in every test."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from moshi_mlx.cli import outputs

SCHEMA = json.loads(Path(outputs.__file__).with_name("schema.json").read_text("utf-8"))


def check(told: dict[str, Any]) -> None:
    """Raises: ValidationError, AssertionError for what does not fit."""
    prefix, command, version = told["schema"].split("/")
    assert (prefix, int(version)) == ("moshi-mlx", outputs.SCHEMA)
    schema = {"$ref": f"#/$defs/{command}", "$defs": SCHEMA["$defs"]}
    jsonschema.validate(json.loads(json.dumps(told, allow_nan=False)), schema)


@pytest.fixture(autouse=True)
def _every_json_fits_its_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    with_schema = outputs.with_schema

    def checked(command: str, result: Mapping[str, Any]) -> dict[str, Any]:
        told = with_schema(command, result)
        check(told)
        return told

    monkeypatch.setattr(outputs, "with_schema", checked)
