"""``python -m moshi_mlx.run_helium``: moshi_mlx 0.3.0's name for ``complete``."""

import sys

from .cli.main import OLD_SEED, run_command

# 0.3.0's defaults; later arguments on the line override them.
DEFAULTS = ["--prompt", "Aujourd'hui, il est temps", "--steps", "20"]
DEFAULTS += ["--seed", str(OLD_SEED)]
QUANTIZED = ["--quantize-group-size", "64"]


def main() -> int:
    """Run ``complete`` with 0.3.0's defaults."""
    args = sys.argv[1:]
    quantized = any(arg.split("=")[0] == "--quantize-bits" for arg in args)
    given = [*DEFAULTS, *(QUANTIZED if quantized else []), *args]
    return run_command("complete", given, "python -m moshi_mlx.run_helium")


if __name__ == "__main__":
    sys.exit(main())
