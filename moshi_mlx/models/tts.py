"""moshi_mlx 0.3.0's path to text to speech, which is now ``moshi_mlx.engines.tts``."""

from ..engines.tts import *  # noqa: F403
from ..engines.tts import __all__  # noqa: F401
