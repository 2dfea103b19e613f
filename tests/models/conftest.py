"""What the tests of the networks share."""

from collections.abc import Iterator

import mlx.core as mx
import pytest


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """Run compiled functions as written: on CPU, g++ takes seconds for each model."""
    mx.disable_compile()
    yield
    mx.enable_compile()
