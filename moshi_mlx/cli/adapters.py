"""`--adapter` of `serve`: one for all conversations, or several with names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError

_NAME = re.compile(r"[\w.-]{1,40}")


@dataclass(frozen=True)
class GivenAdapters:
    """One adapter for all conversations, or several by name, from which each
    chooses."""

    single: Path | None = None
    named: dict[str, Path] = field(default_factory=dict)


def read_adapters(given: Sequence[str]) -> GivenAdapters:
    """The adapters of ``--adapter PATH``, or of several ``--adapter NAME=PATH``.

    Raises: ConfigError for a name that is invalid or given twice, and for several
        adapters of which one has no name.
    """
    named: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or Path(text).expanduser().exists():
            if len(given) > 1:
                raise ConfigError(
                    f"--adapter {text} has no name, and there are {len(given)}: write "
                    f"each as --adapter NAME={text}."
                )
            return GivenAdapters(Path(text))
        if not _NAME.fullmatch(name) or not path:
            raise ConfigError(
                f"--adapter {text!r}: write it as NAME=PATH, the name in letters, "
                "digits, '.', '-' and '_'."
            )
        if name in named:
            raise ConfigError(f"--adapter {name}= was given twice: use two names.")
        named[name] = Path(path)
    return GivenAdapters(None, named)
