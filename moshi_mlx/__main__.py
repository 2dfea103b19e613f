"""`python -m moshi_mlx` is `moshi-mlx`."""

import sys

from .cli.main import main

sys.exit(main())
