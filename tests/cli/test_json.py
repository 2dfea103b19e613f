"""The schema of what --json prints: whole, strict, and the same for all commands."""

import inspect
from typing import Any

import jsonschema
import pytest

from moshi_mlx.cli.main import COMMANDS
from tests.cli.conftest import SCHEMA, check

UNITS = ("_s", "_ms", "_bytes", "_hz", "_percent")


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    named = [entry["$ref"].rpartition("/")[2] for entry in SCHEMA["oneOf"]]
    for name in named:
        const = SCHEMA["$defs"][name]["properties"]["schema"]["const"]
        assert const == f"moshi-mlx/{name}/1"


def with_json() -> list[str]:
    """The commands that have --json."""
    from importlib import import_module

    found = []
    for name in COMMANDS:
        module = import_module(f"moshi_mlx.cli.{name}")
        function = getattr(module, name)
        if "json_" in inspect.signature(function).parameters:
            found.append(name)
    return found


@pytest.mark.parametrize("name", with_json())
def test_every_command_with_json_has_a_schema(name: str):
    assert name in SCHEMA["$defs"] and SCHEMA["$defs"][name]["description"]


def test_what_does_not_fit_is_refused():
    told: dict[str, Any] = {"schema": "moshi-mlx/voices/1", "repository": "r"}
    check({**told, "voices": ["a"]})
    for wrong in ({}, {"voices": "a"}, {"voices": [], "more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            check({**told, **wrong})
