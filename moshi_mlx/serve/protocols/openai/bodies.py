"""Posted JSON."""

import json
from typing import Any

from ...gate.refusal import Refused


def fields_of(body: bytes) -> dict[str, Any]:
    """The fields of a body. Raises: Refused if it is not a JSON object."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the body is not JSON.") from error
    if not isinstance(fields, dict):
        raise Refused(400, "the body must be a JSON object.")
    return fields
