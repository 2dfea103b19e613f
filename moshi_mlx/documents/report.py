"""A conversation as one HTML file: both voices, the text at its time, the latency.

The file is self-contained: it includes the sound, unless that is too long.
"""

import base64
import io
import wave
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from os.path import relpath
from pathlib import Path
from string import Template
from typing import BinaryIO

import numpy as np

from ..audio.framing import FRAME_MS, SAMPLE_RATE
from ..audio.samples import as_int16
from ..errors import AudioError
from ..utils.trace import Timing, percentile
from ..utils.whole_files import write_whole
from .looks import looks
from .timeline import timeline
from .transcript import Timed, cues, short_clock

_EMBED_BYTES = 12 * 2**20  # of sound; two minutes in stereo
_PEAK_HZ = 200  # peaks per second of a waveform
_BLOCK_S = 10  # seconds of sound that are read together


@dataclass(frozen=True)
class StereoSound:
    """The parts of a stereo recording that the report needs, however long it is.

    Attributes:
        duration_s: its length.
        peaks: loudest sample of each side in 1 / 200 s, 0 to 1, ``[2, N]``.
        source: for an audio element; None if there is nothing to play.
        embedded: whether ``source`` holds the sound itself.
    """

    duration_s: float
    peaks: np.ndarray
    source: str | None
    embedded: bool


def write_report(
    path: str | Path,
    sound: str | Path | np.ndarray,
    *,
    title: str,
    pieces: Iterable[Timed] = (),
    frame_ms: Sequence[float] = (),
    stages: Mapping[str, Timing] | None = None,
    facts: Mapping[str, object] | None = None,
    sample_rate: int = SAMPLE_RATE,
    restarts: Sequence[float] = (),
) -> None:
    """Write the report of a conversation to ``path``, one self-contained HTML file.

    Args:
        path: file to write.
        sound: a ``Recording``'s WAV file, or ``[2, S]``: the user, then Moshi.
        title: headline.
        pieces: the text, in the model's pieces, with their times.
        frame_ms: milliseconds of each frame, from the first on.
        stages: times of the stages of a frame.
        facts: additional lines at the top: model, seed, ...
        sample_rate: of ``sound`` if it is an array, in Hz.
        restarts: seconds at which new conversations start.

    Raises: AudioError if the file cannot be written.
    """
    path, pieces = Path(path), list(pieces)
    heard = _read(sound, sample_rate, path.parent)
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    page = Template(template).substitute(
        looks=looks(),
        title=escape(title),
        facts="".join(
            f"<li>{escape(name)} <b>{escape(str(value))}</b></li>"
            for name, value in (facts or {}).items()
        ),
        tiles="".join(_tiles(heard.duration_s, frame_ms)),
        player=_player(heard),
        timeline=timeline(
            *(heard.peaks, heard.duration_s, pieces, frame_ms, FRAME_MS, restarts)
        ),
        said=_said(pieces, restarts),
        stages=_stages(stages or {}),
    )
    try:
        write_whole(path, page)
    except OSError as error:
        raise AudioError(f"{path} cannot be written: {error.strerror}.") from error


def _read(
    sound: str | Path | np.ndarray, sample_rate: int, folder: Path
) -> StereoSound:
    if isinstance(sound, np.ndarray):
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setparams((2, 2, sample_rate, 0, "NONE", ""))
            writer.writeframes(as_int16(sound.T).tobytes())
        peaks, duration_s = _peaks(io.BytesIO(file.getvalue()))
        data = file.getvalue() if file.tell() <= _EMBED_BYTES else None
        link = None
    else:
        with Path(sound).open("rb") as file:
            peaks, duration_s = _peaks(file)
        small = Path(sound).stat().st_size <= _EMBED_BYTES
        data = Path(sound).read_bytes() if small else None
        link = Path(relpath(sound, folder)).as_posix()
    if data is None:
        return StereoSound(duration_s, peaks, link, False)
    coded = base64.b64encode(data).decode()
    return StereoSound(duration_s, peaks, f"data:audio/wav;base64,{coded}", True)


def _peaks(file: BinaryIO) -> tuple[np.ndarray, float]:
    """Peaks ``[2, N]`` and the duration of a 16-bit stereo WAV, read in blocks."""
    with wave.open(file) as reader:
        if (reader.getnchannels(), reader.getsampwidth()) != (2, 2):
            raise AudioError("a report needs 16-bit stereo: the user, then Moshi.")
        rate = reader.getframerate()
        hop = rate // _PEAK_HZ
        parts = [np.zeros((0, 2))]
        while block := reader.readframes(_BLOCK_S * rate // hop * hop):
            pcm = np.abs(np.frombuffer(block, "<i2").reshape(-1, 2) / 32768)
            pcm = np.pad(pcm, ((0, -len(pcm) % hop), (0, 0)))
            parts.append(pcm.reshape(-1, hop, 2).max(axis=1))
        return np.concatenate(parts).T, reader.getnframes() / rate


def _tiles(duration_s: float, frame_ms: Sequence[float]) -> Iterable[str]:
    """The numbers at the top."""
    yield _tile(_minutes(duration_s), "of conversation")
    if not frame_ms:
        return
    ms = list(frame_ms)
    late = sum(value > FRAME_MS for value in ms)
    yield _tile(f"{percentile(ms, 50):.1f} ms", "median of the frames")
    yield _tile(f"{percentile(ms, 95):.1f} ms", "95 % of the frames within")
    speed = FRAME_MS * len(ms) / max(sum(ms), 1e-9)
    yield _tile(f"{speed:.1f}×", "real time, frames alone", bad=speed < 1)  # noqa: RUF001
    yield _tile(str(late), f"of {len(ms)} frames late", bad=late > 0)


def _tile(number: str, meaning: str, bad: bool = False) -> str:
    kind = "tile bad" if bad else "tile"
    return f'<div class="{kind}"><b>{number}</b><small>{meaning}</small></div>'


def _minutes(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{short_clock(seconds, 0)} min"


def _player(sound: StereoSound) -> str:
    if sound.source is None:
        return '<p class="note">The sound is too long to be embedded here.</p>'
    if not sound.embedded:  # browsers keep WebAudio off other files: no mixing
        name = escape(sound.source)
        return (
            f'<p class="note">The sound is too long to be embedded: this plays {name}, '
            f'which must stay beside this page.</p><div class="player">'
            f'<audio controls preload="metadata" src="{name}"></audio></div>'
        )
    buttons = "".join(
        f'<button value="{value}" aria-pressed="{pressed}">{label}</button>'
        for value, pressed, label in [
            ("both", "true", "Both"),
            ("you", "false", "You"),
            ("moshi", "false", "Moshi"),
        ]
    )
    return (
        f'<div class="player"><audio controls src="{sound.source}"></audio>'
        f'<div class="sides" role="group" aria-label="Who is heard">{buttons}</div>'
        "</div>"
    )


def _said(pieces: list[Timed], restarts: Sequence[float]) -> str:
    if not pieces:
        return '<p class="note">Nothing.</p>'
    lines, bounds = [], [0.0, *restarts, float("inf")]
    for start_s, end_s in pairwise(bounds):
        if start_s in restarts:
            lines.append(
                f'<li class="restart"><time>{short_clock(start_s)}</time>'
                "<span>A new conversation</span></li>"
            )
        mine = [piece for piece in pieces if start_s <= piece.start_s < end_s]
        lines += [
            f'<li data-from="{cue.start_s:.3f}" data-to="{cue.end_s:.3f}">'
            f"<time>{short_clock(cue.start_s)}</time>"
            f"<span>{escape(cue.text.strip())}</span></li>"
            for cue in cues(mine)
        ]
    return f'<ol class="said">{"".join(lines)}</ol>'


def _stages(stages: Mapping[str, Timing]) -> str:
    if not stages:
        return '<p class="note">Not measured.</p>'
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{timing.p50_ms:.1f}</td>"
        f"<td>{timing.p95_ms:.1f}</td><td>{timing.max_ms:.1f}</td></tr>"
        f'<tr class="bars"><td colspan="4"><div class="bar"><i style="width:'
        f'{min(100.0, 100 * timing.p50_ms / FRAME_MS):.1f}%"></i></div></td></tr>'
        for name, timing in stages.items()
    )
    head = "<tr><th>stage, in ms</th><th>p50</th><th>p95</th><th>max</th></tr>"
    return f"<table>{head}{rows}</table>"
