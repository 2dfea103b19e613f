"""``python -m moshi_mlx.run_tts``: moshi_mlx 0.3.0's name for ``speak`` of scripts."""

import sys

from .cli.main import OLD_SEED, run_command


def main() -> int:
    """Run ``speak`` on a file of scripts, with 0.3.0's seed unless another is given."""
    args = ["--seed", str(OLD_SEED), "--jsonl", *sys.argv[1:]]
    return run_command("speak", args, "python -m moshi_mlx.run_tts")


if __name__ == "__main__":
    sys.exit(main())
