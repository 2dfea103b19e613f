"""``python -m moshi_mlx.run_inference``: moshi_mlx 0.3.0's name for ``respond``."""

import sys

from .cli.main import OLD_SEED, run_command

DEFAULT_REPO = "kyutai/moshiko-mlx-q8"


def main() -> int:
    """Run ``respond`` with 0.3.0's default model and seed."""
    args = sys.argv[1:]
    names = {arg.split("=")[0] for arg in args}
    default = [] if names & {"--hf-repo", "--model"} else ["--hf-repo", DEFAULT_REPO]
    if "--seed" not in names:
        default += ["--seed", str(OLD_SEED)]
    return run_command(
        "respond", [*default, *args], "python -m moshi_mlx.run_inference"
    )


if __name__ == "__main__":
    sys.exit(main())
