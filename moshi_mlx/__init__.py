"""Kyutai's speech models in MLX: Moshi, Hibiki, speech to text and back, Mimi.

::

    moshi = moshi_mlx.load("demo")
    answer = moshi.respond("question.wav")  # .text, .words, .pcm, .save(path)

    session = moshi.session(seed=0)  # or frame by frame, from any thread
    for frame in moshi_mlx.audio.frames("question.wav"):  # float32 [1920], 24 kHz
        reply = session.step(frame)  # .pcm [1920] or None, .text, .tokens
    for reply in session.flush():  # what it still has to say
        ...

Everything loads on first use: importing the package imports MLX and nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING

try:
    import_module("mlx.core")
except ImportError as error:
    raise ImportError(
        "moshi_mlx cannot load MLX: on Linux its computing half is a package of its "
        "own, so install it with pip install 'moshi_mlx[cpu]' (or 'mlx[cuda13]' for an "
        f"NVIDIA GPU). The loader said: {error}"
    ) from error

if TYPE_CHECKING:
    from . import audio, errors, models, modules, utils
    from .engines.codec.load import load_codec
    from .engines.door import load
    from .engines.duplex.load import load_moshi
    from .engines.load import load_stt, load_text, load_tts

__version__ = "0.4.0"

__all__ = [
    "__version__",
    "audio",
    "errors",
    "load",
    "load_codec",
    "load_moshi",
    "load_stt",
    "load_text",
    "load_tts",
    "models",
    "modules",
    "utils",
]
_LOADERS = {
    "load": "door",
    "load_codec": "codec.load",
    "load_moshi": "duplex.load",
    "load_stt": "load",
    "load_text": "load",
    "load_tts": "load",
}


def __getattr__(name: str) -> object:
    if name in _LOADERS:
        return getattr(import_module(f".engines.{_LOADERS[name]}", __name__), name)
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'moshi_mlx' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
