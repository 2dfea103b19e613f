"""The networks: their configuration, and one step of generation."""

from . import generate, lm, mimi, ready  # noqa: F401 (ready: the fast forms)
from .config import DepFormerConfig, LmConfig
from .generate import LmGen
from .lm import Lm
from .mimi import Mimi, MimiConfig
from .presets import (
    config1b_202412,
    config1b_202412_16rvq,
    config_helium_1_preview_2b,
    config_v0_1,
    mimi_202407,
)

__all__ = [
    "DepFormerConfig",
    "Lm",
    "LmConfig",
    "LmGen",
    "Mimi",
    "MimiConfig",
    "config1b_202412",
    "config1b_202412_16rvq",
    "config_helium_1_preview_2b",
    "config_v0_1",
    "generate",
    "lm",
    "mimi",
    "mimi_202407",
]
