"""The machine that was measured, in words."""

import platform
from importlib.metadata import version

import mlx.core as mx

from ..checkpoint.memory import machine_memory


def machine() -> str:
    """This machine in a line, for tables that travel."""
    device = mx.device_info(mx.default_device()).get(
        "device_name", platform.processor()
    )
    return (
        f"{platform.system()} {platform.machine()}, {device}, "
        f"{machine_memory() / 1e9:.0f} GB, mlx {version('mlx')}, "
        f"Python {platform.python_version()}"
    )
