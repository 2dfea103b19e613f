"""``python -m moshi_mlx.local``: moshi_mlx 0.3.0's name for ``chat``."""

import sys

from .cli.main import run_command

_REPO = "kyutai/moshiko-mlx"
_BITS = {"4": "q4", "8": "q8"}


def main() -> int:
    """Run ``chat`` with 0.3.0's default model."""
    args = sys.argv[1:]
    return run_command(
        "chat", [*default_model(args), *args], "python -m moshi_mlx.local"
    )


def default_model(args: list[str]) -> list[str]:
    """0.3.0's choice without a named model: the one quantised as ``-q`` asks."""
    names = [arg.split("=")[0] for arg in args]
    if "--hf-repo" in names or "--model" in names:
        return []
    bits = None
    for i, arg in enumerate(args):
        if arg in ("-q", "--quantized"):
            bits = args[i + 1] if i + 1 < len(args) else None
        elif arg.startswith(("-q", "--quantized=")):
            bits = arg.removeprefix("--quantized=").removeprefix("-q").lstrip("=")
    return ["--hf-repo", f"{_REPO}-{_BITS.get(bits or '', 'bf16')}"]


if __name__ == "__main__":
    sys.exit(main())
