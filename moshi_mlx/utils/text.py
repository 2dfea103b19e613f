"""From text tokens, one at a time, to printable text."""

from typing import Protocol


class Tokenizer(Protocol):
    """The parts of a ``sentencepiece.SentencePieceProcessor`` that are used."""

    def id_to_piece(self, id: int) -> str: ...
    def is_byte(self, id: int) -> bool: ...
    def is_control(self, id: int) -> bool: ...
    def encode(self, text: str, /) -> list[int]: ...


class PieceReader:
    """Reads a stream of tokens; characters that span byte tokens come when complete.

    Args:
        tokenizer: of the model.
        silent: tokens that say nothing (padding, end of padding).
    """

    def __init__(self, tokenizer: Tokenizer, silent: tuple[int, ...] = (0, 3)):
        self._tokenizer = tokenizer
        self._silent = silent
        self._bytes = b""

    @property
    def state(self) -> str:
        """Bytes of a character that is not complete yet, as hexadecimal digits."""
        return self._bytes.hex()

    @state.setter
    def state(self, state: str) -> None:
        self._bytes = bytes.fromhex(state)

    def read(self, token: int) -> str:
        """Text that the token completes; a word starts with a space."""
        if token in self._silent or token < 0:
            return ""
        if self._tokenizer.is_byte(token):
            self._bytes += bytes([int(self._tokenizer.id_to_piece(token)[3:-1], 16)])
            try:
                text = self._bytes.decode()
            except UnicodeDecodeError:
                if len(self._bytes) < 4:  # a character has four bytes at most
                    return ""
                text = self._bytes.decode(errors="replace")
            self._bytes = b""
            return text
        self._bytes = b""
        if self._tokenizer.is_control(token):
            return ""
        return self._tokenizer.id_to_piece(token).replace("▁", " ")
