"""Many scripts at once: a line of JSON each, spoken in batches, a file each."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..audio.files import write_wav
from ..errors import ConfigError, MoshiError
from ..models.tts import TTSModel, TTSResult

KEYS = {"turns": list, "voices": list, "id": str}


@dataclass(frozen=True)
class Request:
    """A script.

    Attributes:
        line: number of its line in the file, from 1.
        turns: what is said, the main speaker first.
        voices: of the speakers, likewise.
        id: names the files that it becomes.
    """

    line: int
    turns: list[str]
    voices: list[str]
    id: str


@dataclass(frozen=True)
class Failure:
    """A line that became nothing, and why."""

    line: int
    reason: str


def read_requests(text: str) -> Iterator[Request | Failure]:
    """The scripts of a JSONL file; a broken line does not keep back the others."""
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            request = _request(number, line)
            if request.id in seen:
                raise ConfigError(f"the id {request.id!r} was used before")
            seen.add(request.id)
            yield request
        except MoshiError as error:
            yield Failure(number, str(error))


def _request(number: int, line: str) -> Request:
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"is not JSON ({error.msg} at {error.colno})") from None
    if not isinstance(data, dict):
        raise ConfigError(f"is no JSON object with {', '.join(KEYS)}")
    if wrong := sorted(set(data) ^ set(KEYS)):
        raise ConfigError(f"lacks or has beyond {', '.join(KEYS)}: {', '.join(wrong)}")
    for key, kind in KEYS.items():
        parts = data[key] if kind is list else [data[key]]
        if not isinstance(data[key], kind) or not all(
            isinstance(part, str) for part in parts
        ):
            raise ConfigError(f"has no {'texts' if kind is list else 'text'} as {key}")
    path = Path(data["id"])
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise ConfigError(f"has the id {data['id']!r}, which names no file here")
    return Request(number, **data)


class Reader:
    """Says scripts in batches and writes what comes of them.

    Args:
        guidance: see ``SpeechSession``.
        padding_between: see ``ScriptReader``.
        folder: gets ``ID.wav`` and, unless ``only_wav``, ``ID.safetensors`` (codes) and
            ``ID.json`` (words, times, settings), as moshi_mlx 0.3.0 wrote them.
        about: what else the JSON files say.
    """

    def __init__(
        self,
        tts: TTSModel,
        folder: Path,
        guidance: float = 2.0,
        padding_between: int = 1,
        only_wav: bool = False,
        seed: int | None = None,
        about: dict[str, Any] | None = None,
    ):
        self.tts = tts
        self._folder = folder
        self._padding_between = padding_between
        self._only_wav = only_wav
        self._seed = seed
        self._about = about or {}
        learnt = bool(tts.valid_cfg_conditionings)
        self._learnt = guidance if learnt else None
        tts.cfg_coef = 1.0 if learnt else guidance

    def say(self, requests: Sequence[Request]) -> Iterator[Path | Failure]:
        """Say one batch. A script that cannot be said leaves the others alone."""
        prepared = []
        for request in requests:
            try:
                prepared.append((request, *self._prepare(request)))
            except MoshiError as error:
                yield Failure(request.line, str(error))
        if not prepared:
            return
        requests, entries, attributes, prefixes = zip(*prepared, strict=True)
        seeds = None if self._seed is None else [self._seed] * len(requests)
        result = self.tts.generate(
            list(entries),
            list(attributes) if attributes[0].text or attributes[0].tensor else [],
            None if self.tts.multi_speaker else list(prefixes),
            cfg_is_no_prefix=self._learnt is None,
            cfg_is_no_text=self._learnt is None,
            seed=seeds,
        )
        pcm = self._decoded(result)
        for row, request in enumerate(requests):
            start = 0 if self.tts.multi_speaker else prefixes[row].shape[-1]
            yield self._write(row, request, result, pcm, start)

    def _prepare(self, request: Request) -> tuple[Any, ...]:
        tts = self.tts
        entries = tts.prepare_script(request.turns, self._padding_between)
        if not any(entry.tokens for entry in entries):
            raise ConfigError("the text has no words: give something to say.")
        paths = [tts.get_voice_path(voice) for voice in request.voices]
        if tts.multi_speaker:
            attributes = tts.make_condition_attributes(paths, self._learnt)
            return entries, attributes, None
        if len(paths) != 1:
            raise ConfigError("this model takes exactly one voice, a sound file.")
        return entries, tts.make_condition_attributes([]), tts.get_prefix(paths[0])

    def _decoded(self, result: TTSResult) -> np.ndarray:
        """Sound of all rows, float32 ``[B, S]``."""
        mimi = self.tts.mimi
        state = mimi.make_state(result.frames[0].shape[0])
        parts = []
        for frame in result.frames:
            sound = mimi.decode_step(frame, state)[:, 0].astype(mx.float32)
            parts.append(np.array(mx.clip(sound, -1, 1)))
        return np.concatenate(parts, axis=1)

    def _write(
        self,
        row: int,
        request: Request,
        result: TTSResult,
        pcm: np.ndarray,
        start_step: int,
    ) -> Path:
        tts, size = self.tts, self.tts.mimi.frame_size
        end_step = result.end_steps[row]
        stop = None
        if end_step is not None:  # what the row would have had alone
            stop = (end_step + tts.final_padding - max(tts.lm.delays)) * size
        path = self._folder / f"{request.id}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        sound = pcm[row, start_step * size : stop]
        write_wav(path, sound, int(tts.mimi.sample_rate))
        if self._only_wav:
            return path
        codes = mx.concatenate(result.frames, axis=-1)[row]
        mx.save_safetensors(str(_beside(path, ".safetensors")), {"frames": codes})
        about = {
            **self._about,
            "cfg_coef": tts.cfg_coef,
            "temp": tts.temp,
            "max_padding": tts.machine.max_padding,
            "initial_padding": tts.machine.initial_padding,
            "final_padding": tts.final_padding,
            "padding_between": self._padding_between,
            "padding_bonus": tts.padding_bonus,
            "transcript": result.all_transcripts[row],
            "consumption_times": result.all_consumption_times[row],
            "turns": request.turns,
            "voices": request.voices,
            "logged_text_tokens": result.logged_text_tokens[row],
            "end_step": end_step,
            "start_step": start_step,
        }
        _beside(path, ".json").write_text(json.dumps(about, ensure_ascii=False))
        return path


def _beside(wav: Path, suffix: str) -> Path:
    """``ID.json`` of ``ID.wav``; an id may hold dots."""
    return wav.with_name(wav.name.removesuffix(".wav") + suffix)
