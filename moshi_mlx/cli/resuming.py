"""`--save-state` and `--resume`: a conversation that goes on another day."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError

if TYPE_CHECKING:
    from ..engines.duplex.session import DuplexSession
    from ..models.snapshot import Snapshot


class Resuming:
    """Where a conversation goes on from, and where its state is kept at its end.

    Args:
        resume: a file that ``--save-state`` wrote.
        save: the file to write; only its owner may read it.

    Raises: CheckpointError for a file that cannot be read, or a place that is none;
        both before a model is loaded.
    """

    def __init__(self, resume: Path | None, save: Path | None):
        self._save = save
        self._snapshot: Snapshot | None = None
        self._session: DuplexSession | None = None
        if resume is not None:
            from ..models import snapshot

            self._snapshot = snapshot.Snapshot.load(resume)
        if save is not None and not save.expanduser().absolute().parent.is_dir():
            raise CheckpointError(
                f"--save-state {save} cannot be written: there is no folder "
                f"{save.parent}."
            )

    def begin(self, session: "DuplexSession") -> "DuplexSession":
        """The same session, which goes on from the file if it is the first one."""
        if self._snapshot is not None:
            session.restore(self._snapshot)
            self._snapshot = None
        self._session = session
        return session

    def end(self) -> None:
        """Keep the newest session's state."""
        if self._save is not None and self._session is not None:
            self._session.snapshot().save(self._save)
