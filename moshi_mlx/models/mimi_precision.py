"""The codec's decoder in 16 bits.

float16 loses little: with the demo's codec, decoded sound differs from float32's by -63
    dB. Codes stay exact, since only the decoder changes. bfloat16 is too coarse for
    sound.
"""

import mlx.core as mx
from mlx.utils import tree_flatten

from .. import fast
from ..errors import ConfigError
from .mimi import Mimi

HALF_MAX = 65504.0  # the largest float16


def set_decoder_dtype(mimi: Mimi, dtype: mx.Dtype) -> Mimi:
    """Decode sound in ``dtype``: float16, or float32 as before.

    Streams that have started must be restarted.

    Raises: ConfigError for another type, and for weights that are too large for it.
    """
    if dtype not in (mx.float16, mx.float32):
        raise ConfigError(
            f"the codec's decoder was asked for in {str(dtype).rpartition('.')[2]}: "
            "choose float16 or float32 (bfloat16 is too coarse for sound)."
        )
    for part in (mimi.upsample, mimi.decoder_transformer, mimi.decoder):
        for name, w in dict(tree_flatten(part.parameters())).items():
            if dtype == mx.float16 and mx.any(mx.abs(w) > HALF_MAX).item():
                raise ConfigError(
                    f"the codec's {name} has values beyond {HALF_MAX:g}, the largest "
                    "float16: leave its decoder in float32."
                )
        part.set_dtype(dtype)
    fast.forget(mimi)
    mimi.reset_state()
    return mimi
