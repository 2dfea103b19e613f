"""`--save-state` and `--resume`: a conversation that continues another day."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..engines.duplex.session import DuplexSession
    from ..models.snapshot import Snapshot


class Resuming:
    """The state to continue a conversation from, and the file to keep it in at the end.

    Args:
        resume: a file written by ``--save-state``.
        save: the file to write; only its owner may read it.
        codec: the codec that the user asked for, if any.
        say_first: first words of a new conversation.

    Raises: CheckpointError for a file that cannot be read; ConfigError for options that
        do not go together. Both come before a model is loaded.
    """

    def __init__(
        self,
        resume: Path | None,
        save: Path | None,
        codec: str | None = None,
        say_first: str | None = None,
    ):
        self.wanted = resume is not None or save is not None
        if self.wanted and codec == "rust":
            raise ConfigError(
                "the rust codec cannot tell its state, which --save-state and --resume "
                "need: use --codec native."
            )
        if resume is not None and say_first:
            raise ConfigError(
                "--say-first begins a new conversation, and --resume continues one: "
                "leave one of them out."
            )
        self._save = save
        self._snapshot: Snapshot | None = None
        self._session: DuplexSession | None = None
        if resume is not None:
            from ..models import snapshot

            self._snapshot = snapshot.Snapshot.load(resume)

    def begin(self, session: "DuplexSession") -> "DuplexSession":
        """The same session; the first one continues from the file."""
        if self._snapshot is not None:
            session.restore(self._snapshot)
            self._snapshot = None
        self._session = session
        return session

    def end(self) -> None:
        """Save the newest session's state."""
        if self._save is not None and self._session is not None:
            self._session.snapshot().save(self._save)
