"""``python -m moshi_mlx.run_inference``: moshi_mlx 0.3.0's name for ``respond``."""

import sys

from .cli.main import run_command

DEFAULT_REPO = "kyutai/moshiko-mlx-q8"


def main() -> int:
    """Run ``respond`` with 0.3.0's default model."""
    args = sys.argv[1:]
    named = any(arg.split("=")[0] in ("--hf-repo", "--model") for arg in args)
    default = [] if named else ["--hf-repo", DEFAULT_REPO]
    return run_command(
        "respond", [*default, *args], "python -m moshi_mlx.run_inference"
    )


if __name__ == "__main__":
    sys.exit(main())
