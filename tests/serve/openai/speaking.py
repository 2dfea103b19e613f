"""The speech of a server, of models that are loaded."""

from moshi_mlx.engines.owner import model_thread
from moshi_mlx.engines.stt import STTModel
from moshi_mlx.engines.stt.batch import STTBatch
from moshi_mlx.engines.tts import TTSModel
from moshi_mlx.engines.tts.batch import TTSBatch
from moshi_mlx.serve.lazy import Lazy
from moshi_mlx.serve.speech import SpeechService


def speaking(stt: STTModel, tts: TTSModel, rows: int = 2, **options) -> SpeechService:
    return SpeechService(
        model_thread(),
        Lazy(stt.name, lambda: STTBatch(stt, rows)),
        Lazy(tts.name, lambda: TTSBatch(tts, rows)),
        **options,
    )
