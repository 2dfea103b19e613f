"""`python -m moshi_mlx.local_web`: moshi_mlx 0.3.0's name for `moshi-mlx serve`."""

import sys

from .cli.main import run_command


def main() -> int:
    """Run with the process's arguments; returns the exit code."""
    return run_command("serve", sys.argv[1:], "moshi-local-web")


if __name__ == "__main__":
    sys.exit(main())
