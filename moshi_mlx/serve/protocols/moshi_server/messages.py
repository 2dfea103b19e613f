"""moshi-server's messages: MessagePack maps with a ``type``, equal to the byte.

Samples, probabilities and embeddings are single floats, times are doubles, and bytes
are arrays of integers, as serde writes them. Source: kyutai-labs/moshi,
rust/moshi-server/src/asr.rs and tts.rs.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ....audio.samples import Pcm, fault
from ....errors import ProtocolError

MOST_SAMPLES = 24000 * 60  # of a message
MOST_BYTES = 1 << 20


class Singles:
    """Numbers that are written as single floats."""

    def __init__(self, values: ArrayLike):
        self.values = np.asarray(values, ">f4").reshape(-1)

    def packed(self, packer: Any) -> bytes:
        coded = np.empty((len(self.values), 5), np.uint8)
        coded[:, 0] = 0xCA
        coded[:, 1:] = self.values.view(np.uint8).reshape(-1, 4)
        return packer.pack_array_header(len(self.values)) + coded.tobytes()


def message(kind: str, **fields: object) -> bytes:
    """A message of a ``kind``; bytes become an array of integers."""
    import msgpack

    packer = msgpack.Packer()
    out = [packer.pack_map_header(1 + len(fields)), packer.pack("type")]
    out.append(packer.pack(kind))
    for name, value in fields.items():
        out.append(packer.pack(name))
        if isinstance(value, Singles):
            out.append(value.packed(packer))
        elif isinstance(value, bytes):
            out.append(packer.pack(list(value)))
        else:
            out.append(packer.pack(value))
    return b"".join(out)


def read_message(data: bytes) -> tuple[str, Mapping[str, Any]]:
    """The type of a client's message, and its fields.

    Raises: ProtocolError if it is not such a message.
    """
    import msgpack

    try:
        fields = msgpack.unpackb(data, raw=False, strict_map_key=True)
    except Exception as error:  # msgpack raises many kinds, some of them ValueErrors
        raise ProtocolError("a message is not MessagePack.") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise ProtocolError("a message is not a map with a type.")
    return fields["type"], fields


def samples(value: object) -> Pcm:
    """The sound in a field, float32 ``[S]``.

    Raises: ProtocolError for anything but an array of numbers that can be sound.
    """
    found = numbers(value)
    if wrong := fault(found):
        raise ProtocolError(f"the sound holds samples that {wrong}.")
    return found


def numbers(value: object) -> Pcm:
    """Float32 ``[S]`` of a field.

    Raises: ProtocolError for anything but an array of finite numbers.
    """
    if isinstance(value, bytes) and len(value) % 4 == 0:
        found = np.frombuffer(value, "<f4").astype(np.float32)
    elif isinstance(value, list) and all(type(v) in (float, int) for v in value):
        try:
            with np.errstate(over="ignore"):  # infinite: refused below
                found = np.array(value, np.float64).astype(np.float32)
        except OverflowError as error:
            raise ProtocolError("a number is too large.") from error
    else:
        raise ProtocolError("an array of numbers was expected.")
    if len(found) > MOST_SAMPLES:
        raise ProtocolError("a message holds more than a minute of sound.")
    if not np.isfinite(found).all():
        raise ProtocolError("the array holds values that are not numbers.")
    return found


def octets(value: object) -> bytes:
    """Bytes of a field, as bytes or as an array of integers.

    Raises: ProtocolError for anything else.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, list) and len(value) <= MOST_BYTES:
        try:
            return bytes(value)
        except (TypeError, ValueError):
            pass
    raise ProtocolError("an array of bytes was expected.")


def integer(value: object) -> int:
    """A whole number of 64 bits. Raises: ProtocolError for anything else."""
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    raise ProtocolError("a whole number was expected.")


def text_of(value: object) -> str:
    """Text. Raises: ProtocolError for anything else."""
    if isinstance(value, str):
        return value
    raise ProtocolError("a text was expected.")


def voice_numbers(fields: Mapping[str, Any]) -> tuple[Pcm, list[int]]:
    """The numbers and the shape of a voice. Raises: ProtocolError."""
    values, shape = numbers(fields.get("embeddings")), fields.get("shape")
    if not isinstance(shape, list) or not 1 <= len(shape) <= 3:
        raise ProtocolError("a voice has a shape of one to three numbers.")
    sizes = [integer(size) for size in shape]
    if min(sizes) < 1 or int(np.prod(sizes, dtype=object)) != len(values):
        raise ProtocolError("a voice has as many numbers as its shape says.")
    return values, sizes
