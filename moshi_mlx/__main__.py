"""`python -m moshi_mlx` is `moshi-mlx`."""

import sys

from moshi_mlx_start import moshi_mlx

sys.exit(moshi_mlx())
