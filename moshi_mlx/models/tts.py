"""moshi_mlx 0.3.0's path of what speaks; it lives in ``moshi_mlx.engines.tts`` now."""

from ..engines.tts import *  # noqa: F403
from ..engines.tts import __all__  # noqa: F401
