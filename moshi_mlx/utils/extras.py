"""Optional packages: the extra of each, and the message if it is missing."""

from importlib.util import find_spec

from ..errors import MissingExtra

# For each extra of pyproject.toml, its modules (tests/test_package.py compares them).
EXTRAS = {
    "serve": (
        *("fastapi", "uvicorn", "websockets", "cryptography"),
        *("starlette", "python_multipart", "msgpack"),
    ),
    "rust": ("rustymimi",),
    "av": ("av",),
    "image": ("PIL",),
    "wyoming": ("wyoming", "zeroconf"),
}


def missing(extra: str) -> list[str]:
    """The modules of ``extra`` that are not installed."""
    return [name for name in EXTRAS[extra] if not _is_there(name)]


def require(extra: str, what: str, otherwise: str = "") -> None:
    """Check that all modules of ``extra`` are installed.

    Args:
        extra: a key of ``EXTRAS``.
        what: what needs it, as the message names it ("moshi-mlx serve").
        otherwise: what to do instead, as the end of the sentence (", or ...").

    Raises: MissingExtra that says what to install.
    """
    if absent := missing(extra):
        raise MissingExtra(
            f"{what} needs the extra '{extra}' ({', '.join(absent)} not installed): "
            f"{how_to_install(extra)}{otherwise}."
        )


def how_to_install(extra: str) -> str:
    """The command that adds ``extra`` to an installed moshi_mlx."""
    return f"pip install 'moshi_mlx[{extra}]'"


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # sys.modules holds None: a test has hidden it
        return False
