"""Many scripts at once: a line of JSON each, spoken in batches, into a file each."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ...audio.files import write_wav
from ...errors import DISK_FULL, AudioError, ConfigError, MoshiError
from ...modules.conditioner import ConditionAttributes
from ...utils.paths import real_path
from ...utils.sampling import new_seed
from ...utils.whole_files import whole_file, write_whole
from .machine import Entry
from .model import SpeechModel
from .row import SpeechRow
from .run import SpeechRun
from .script import shown, without_unknown
from .script_file import Failure, Script

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Speech:
    """A script, ready for the model.

    Attributes:
        script: the script as it was read.
        entries: its words.
        attributes: its conditions.
        prefix: codes of a recording to continue.
    """

    script: Script
    entries: list[Entry]
    attributes: ConditionAttributes
    prefix: mx.array | None

    @property
    def voice_frames(self) -> int:
        """Frames of the conditions: the rows of a batch have the same number."""
        return sum(c.tensor.shape[1] for c in self.attributes.tensor.values())


class ScriptWriter:
    """Speaks scripts in batches and writes the results.

    Args:
        voices: files of the voices that scripts name, see ``found_voices``.
        guidance: see ``SpeechSession``.
        padding_between: see ``ScriptReader``.
        folder: gets ``ID.wav`` and, unless ``only_wav``, ``ID.safetensors`` (codes) and
            ``ID.json`` (words, times, settings), as moshi_mlx 0.3.0 wrote them.
        about: additional content of the JSON files.
    """

    def __init__(
        self,
        tts: SpeechModel,
        folder: Path,
        voices: Mapping[str, Path | Exception],
        guidance: float = 2.0,
        padding_between: int = 1,
        only_wav: bool = False,
        seed: int | None = None,
        about: Mapping[str, Any] | None = None,
    ):
        self.tts = tts
        self._folder = folder
        self._voices = voices
        self._padding_between = padding_between
        self._only_wav = only_wav
        self._seed = seed
        self._about = about or {}
        learnt = bool(tts.valid_cfg_conditionings)
        self._learnt = guidance if learnt else None
        tts.cfg_coef = 1.0 if learnt else guidance

    def say(
        self, scripts: Iterable[Script], batch_size: int = 1
    ) -> Iterator[Path | Failure | None]:
        """Speak scripts, ``batch_size`` at once; the next one starts when one has
        ended.

        Each result is the same as if its script were alone, and a script that fails
        does not affect the others. Yields None after each step, and each result as soon
        as it is ready.
        """
        failures: list[Failure] = []
        speeches = self._prepared(scripts, failures)
        for _, alike in groupby(speeches, key=lambda s: s.voice_frames):
            yield from self._together(alike, batch_size)
        yield from failures

    def _prepared(
        self, scripts: Iterable[Script], failures: list[Failure]
    ) -> Iterator[Speech]:
        for script in scripts:
            try:
                speech = self._prepare(script)
            except MoshiError as error:
                failures.append(Failure(script.line, str(error)))
            except OSError as error:  # a voice whose name no file can have
                reason = f"{error.strerror}: {error.filename}"
                failures.append(Failure(script.line, reason))
            else:
                yield speech

    def _prepare(self, script: Script) -> Speech:
        tts = self.tts
        known = [without_unknown(tts.tokenizer, turn) for turn in script.turns]
        if unknown := dict.fromkeys(
            letter for _, letters in known for letter in letters
        ):
            logger.warning(
                "line %d: the model cannot say %s: left out",
                *(script.line, shown(unknown)),
            )
        entries = tts.prepare_script([turn for turn, _ in known], self._padding_between)
        if not any(entry.tokens for entry in entries):
            raise ConfigError("the text has no words: give something to say.")
        self._check_links(script)
        paths = [self._voice(name) for name in script.voices]
        if real_path(self._path(script)) in [real_path(path) for path in paths]:
            raise ConfigError("would overwrite its own voice: choose another id")
        if tts.multi_speaker:
            attributes = tts.make_condition_attributes(paths, self._learnt)
            return Speech(script, entries, attributes, None)
        if len(paths) != 1:
            raise ConfigError("this model takes exactly one voice, a sound file.")
        attributes, prefix = tts.make_condition_attributes([]), tts.get_prefix(paths[0])
        return Speech(script, entries, attributes, prefix)

    def _together(
        self, speeches: Iterator[Speech], batch_size: int
    ) -> Iterator[Path | Failure | None]:
        """Run speeches side by side, each in a row until it has ended."""
        rows = list(islice(speeches, batch_size))
        conditions = [s.attributes for s in rows if s.attributes.text or s.voice_frames]
        prefixes = [s.prefix for s in rows if s.prefix is not None]
        run = SpeechRun(
            self.tts,
            [s.entries for s in rows],
            conditions,
            prefixes or None,
            cfg_is_no_prefix=self._learnt is None,
            cfg_is_no_text=self._learnt is None,
            seed=[self._next_seed() for _ in rows],
        )
        said: list[list[mx.array]] = [[] for _ in rows]
        _read_prefixes(run, range(len(rows)), said)
        while not all(row.resting for row in run.rows):
            codes = run.step()
            yield None
            for b, speech in enumerate(rows):
                if run.rows[b].resting:
                    continue
                if codes is not None and run.sounds(b):
                    said[b].append(codes[b])
                if not run.ended(b):
                    continue
                yield self._write(speech, run.rows[b], said[b])
                following = next(speeches, None)
                if following is None:
                    run.rest(b)
                    continue
                rows[b], said[b] = following, []
                run.begin(
                    b,
                    following.entries,
                    following.attributes if conditions else None,
                    following.prefix,
                    self._next_seed(),
                )
                _read_prefixes(run, [b], said)

    def _check_links(self, script: Script) -> None:
        """Refuse to write through a link that is in the folder."""
        path = self._path(script)
        inside = [p for p in path.parents if self._folder in p.parents]
        files = [_beside(path, suffix) for suffix in (".wav", ".json", ".safetensors")]
        for place in (*inside, *files):
            if place.is_symlink():
                raise ConfigError(
                    f"would be written through the link {place}: remove it, or choose "
                    "another id"
                )

    def _voice(self, name: str) -> Path:
        found = self._voices[name]
        if isinstance(found, Exception):
            raise found
        return found

    def _path(self, script: Script) -> Path:
        return self._folder / f"{script.id}.wav"

    def _next_seed(self) -> int:
        return new_seed() if self._seed is None else self._seed

    def _write(
        self, speech: Speech, row: SpeechRow, said: list[mx.array]
    ) -> Path | Failure:
        """Write the files of a speech with codes ``said``, ``[K]`` each."""
        try:
            return self._files(speech, row, said)
        except AudioError as error:
            cause = error.__cause__
            if (
                isinstance(cause, OSError) and cause.errno in DISK_FULL
            ):  # every later script would fail too
                raise
            return Failure(speech.script.line, str(error))
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            reason = f"cannot be written: {error.strerror} ({error.filename})"
            return Failure(speech.script.line, reason)

    def _files(self, speech: Speech, row: SpeechRow, said: list[mx.array]) -> Path:
        tts, script, prefix = self.tts, speech.script, speech.prefix
        start_step = 0 if prefix is None else prefix.shape[-1]
        nothing = mx.zeros((tts.n_q, 0), mx.int32)
        codes = mx.stack(said, axis=-1) if said else nothing
        pcm = tts.mimi.decode(codes[None])[0, 0].astype(mx.float32)
        sound = np.array(mx.clip(pcm, -1, 1))[start_step * tts.mimi.frame_size :]
        path = self._path(script)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as begun:
            write_wav(begun, sound, int(tts.mimi.sample_rate))
        if self._only_wav:
            return path
        codes_path = _beside(path, ".safetensors")
        with whole_file(codes_path) as begun, begun.open("wb") as file:
            mx.save_safetensors(file, {"frames": codes})
        about = {
            **self._about,
            "cfg_coef": tts.cfg_coef,
            "temp": tts.temp,
            "max_padding": tts.machine.max_padding,
            "initial_padding": tts.machine.initial_padding,
            "final_padding": tts.final_padding,
            "padding_between": self._padding_between,
            "padding_bonus": tts.padding_bonus,
            "transcript": row.state.transcript,
            "consumption_times": row.state.consumption_times,
            "turns": script.turns,
            "voices": script.voices,
            "logged_text_tokens": row.logged,
            "end_step": row.state.end_step,
            "start_step": start_step,
        }
        write_whole(_beside(path, ".json"), json.dumps(about, ensure_ascii=False))
        return path


def _read_prefixes(
    run: SpeechRun, rows: Sequence[int], said: list[list[mx.array]]
) -> None:
    """Read the recordings that rows continue at once, if possible."""
    codes = run.read_prefix(rows) if run.reads_at_once(rows) else None
    if codes is not None:
        for b, mine in zip(rows, codes, strict=True):
            said[b] += [mine[:, t] for t in range(mine.shape[1])]


def found_voices(
    tts: SpeechModel, scripts: Iterable[Script]
) -> dict[str, Path | Exception]:
    """The file of each voice that scripts name, or why it has none.

    It may have to be downloaded: not to be called on the thread that computes.
    """
    found: dict[str, Path | Exception] = {}
    for name in dict.fromkeys(name for script in scripts for name in script.voices):
        try:
            found[name] = tts.get_voice_path(name)
        except (MoshiError, OSError) as error:
            found[name] = error
    return found


def _beside(wav: Path, suffix: str) -> Path:
    """``ID.json`` for ``ID.wav``; an id may contain dots."""
    return wav.with_name(wav.name.removesuffix(".wav") + suffix)
