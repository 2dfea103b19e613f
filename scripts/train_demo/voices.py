"""Synthesisers that tell when each phone is spoken: hibari and Kokoro.

hibari has one voice, ``heart``, and its spectra and pitch can be turned into those of
other speakers. Kokoro has 54 voices, and others between two of them. Both decide how
many units of 25 ms each phone lasts; one more output of their graphs tells us.
"""

import json
import re
from itertools import pairwise
from pathlib import Path

import hibari
import numpy as np
import onnx
import onnxruntime
from hibari.g2p import G2P
from scipy.interpolate import interp1d
from shards import GRID, KEPT, MEASURED, SAMPLE_RATE, SILENCE, UNKNOWN, Span, Spoken

UNIT = 600  # samples: 25 ms
STRESS, LENGTH, BREAKS = "ˈˌ", "ː", ' .,!?;:—…"()“”'  # noqa: RUF001
ASSETS = Path(hibari.__file__).parent / "assets"
IDS = json.loads((ASSETS / "vocab.json").read_text())  # of both synthesisers' phonemes
LETTERS = sorted(c for c in IDS if c not in STRESS + LENGTH + BREAKS)
NUMBER = {c: i + 1 for i, c in enumerate(LETTERS)}  # of the phones

# Of hibari: pitch, warp of the spectrum, speed, range of the pitch, breath.
Voice = tuple[float, float, float, float, float]
VOICES: dict[str, Voice] = {  # the assistant, and two more that the TTS has
    "heart": (1.0, 1.0, 1.0, 1.0, 0.0),
    "low": (0.58, 0.88, 1.0, 0.9, 0.0),
    "high": (1.15, 1.1, 1.05, 1.1, 0.1),
}


def random_voice(rng: np.random.Generator) -> Voice:
    """From a deep man to a child: pitch and size of the mouth go together, mostly."""
    pitch = float(rng.uniform(0.45, 1.3))
    warp = float(np.clip(0.78 + 0.27 * pitch + rng.normal(0, 0.05), 0.8, 1.18))
    speed = float(rng.uniform(0.8, 1.3))
    return pitch, warp, speed, float(rng.uniform(0.5, 1.5)), float(rng.normal(0, 0.35))


def per_unit(phonemes: str, durations: np.ndarray) -> np.ndarray:
    """A phone for each of their units, which include the silence at both ends.

    Stress joins the phone after it, length the one before.
    """
    kinds = [SILENCE, *(NUMBER.get(c, SILENCE) for c in phonemes), SILENCE]
    for i, c in enumerate(phonemes, 1):
        if c == LENGTH:
            kinds[i] = kinds[i - 1]
        elif c == " ":  # between two words: neither
            kinds[i] = UNKNOWN
    for i in range(len(phonemes), 0, -1):
        if phonemes[i - 1] in STRESS:
            kinds[i] = kinds[i + 1]
    return np.repeat(np.array(kinds, np.int8), durations.astype(int))


def on_grid(units: np.ndarray) -> np.ndarray:
    """Phones per 20 ms of phones per 25 ms."""
    at = (np.arange(len(units) * UNIT // GRID) + 0.5) * GRID / UNIT
    return units[at.astype(int)]


def spans(phonemes: str, durations: np.ndarray, start: float) -> list[Span]:
    """Start and end of each spoken word."""
    edges = (start + np.cumsum(durations, dtype=float) * UNIT / SAMPLE_RATE).round(3)
    words = re.finditer(rf"[^{re.escape(BREAKS)}]+", phonemes)
    return [(float(edges[w.start()]), float(edges[w.end()])) for w in words]


def per_word(found: list[Span], text: str) -> list[Span]:
    """Spans of the written words: evenly spread where more or fewer are spoken."""
    n = len(text.split())
    if len(found) == n:
        return found
    edges = np.linspace(found[0][0], found[-1][1], n + 1).round(3).tolist()
    return list(pairwise(edges))


def with_durations(source: Path, output: str, copy: Path) -> str:
    """A copy of an ONNX file that also returns the durations."""
    if not copy.exists():
        model, kind = onnx.load(source), onnx.TensorProto.FLOAT
        model.graph.output.append(
            onnx.helper.make_tensor_value_info(output, kind, None)
        )
        copy.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, copy)
    return str(copy)


class Hibari:
    """Any speaker that hibari's spectra and pitch can be turned into.

    Its graph with the durations added is kept in ``folder``.
    """

    DURATIONS = "/Clip_output_0"
    PARTS = ("lh", "theta", "ln", "lr", "phi", "f0")  # of a spectrum

    def __init__(self, folder: Path):
        copy = folder / "hibari_durations.onnx"
        model = with_durations(ASSETS / "hibari.onnx", self.DURATIONS, copy)
        self.model = hibari.Hibari(model=model)

    def __call__(self, text: str, voice: Voice, rng: np.random.Generator) -> Spoken:
        pitch, warp, speed, spread, breath = voice
        sounds, units, words, t = [], [], [], 0.0
        for phonemes in self.model.phonemize(text):
            ids = np.array([self.model.ids(phonemes)], np.int64)
            feeds = {"ids": ids, "speed": np.array([speed], np.float32)}
            found = self.model.sess.run([self.DURATIONS, *self.PARTS], feeds)
            durations = found[0].ravel()
            lh, th, ln, lr, phi, f0 = (x[0] for x in found[1:])
            if warp != 1.0:
                lh, ln, lr = (stretched(x, warp) for x in (lh, ln, lr))
                nearest = np.round(np.arange(601) / warp).clip(0, 600).astype(int)
                th, phi = th[nearest], phi[nearest]
            voiced = f0 > 40
            middle = np.exp(np.log(f0[voiced]).mean()) if voiced.any() else 180.0
            curve = middle * pitch * (np.maximum(f0, 40) / middle) ** spread
            f0 = np.where(voiced, curve, 0).astype(np.float32)
            lh, ln = lh + np.float32(0.5 * np.log(pitch)), ln + np.float32(breath)
            sounds.append(hibari.dsp.synth(lh, th, ln, lr + 0, phi, f0, rng))
            units.append(per_unit(phonemes, durations))
            words += spans(phonemes, durations, t)
            t += len(sounds[-1]) / SAMPLE_RATE
        labels = on_grid(np.concatenate(units))
        return Spoken(np.concatenate(sounds), labels, per_word(words, text))


def stretched(x: np.ndarray, warp: float) -> np.ndarray:
    """A spectrum of 601 bins, with its frequency axis stretched."""
    found = interp1d(np.arange(601), x, axis=0)(np.clip(np.arange(601) / warp, 0, 600))
    return found.astype(np.float32)


class Kokoro:
    """Kokoro's voices; ``a+b`` is a speaker between two of them."""

    DURATIONS = "/encoder/Clip_output_0"

    def __init__(self, folder: Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        copy = folder / "kokoro_durations.onnx"
        path = with_durations(Path("kokoro.int8.onnx"), self.DURATIONS, copy)
        self.session = onnxruntime.InferenceSession(path, options)
        self.g2p = {False: G2P(), True: G2P(british=True)}
        self.styles = {
            path.stem: np.fromfile(path, np.float32).reshape(-1, 256)
            for path in sorted(Path("voices").glob("*.bin"))
        }

    def random_voice(self, rng: np.random.Generator) -> str:
        """One that training may hear, or a mixture of two; men twice as often."""
        voices = [v for v in self.styles if v not in MEASURED + KEPT]
        voices += [v for v in voices if v[1] == "m"]
        english = [v for v in voices if v[0] in "ab"]
        voice = str(rng.choice(english if rng.random() < 0.6 else voices))
        if rng.random() < 0.5:
            voice += "+" + str(rng.choice([v for v in voices if v != voice]))
        return voice

    def __call__(
        self, text: str, voice: str, speed: float = 1.0, share: float = 0.5
    ) -> Spoken:
        """``share``: of the first of two voices."""
        found = self.g2p[voice.startswith("b")](text)
        phonemes = found if isinstance(found, str) else found[0]
        phonemes = "".join(c for c in phonemes if c in IDS)
        style, *other = (self.styles[v][len(phonemes)] for v in voice.split("+"))
        if other:
            style = style * share + other[0] * (1 - share)
        feeds = {
            "tokens": np.array([[0, *(IDS[c] for c in phonemes), 0]], np.int64),
            "style": style[None].astype(np.float32),
            "speed": np.array([speed], np.float32),
        }
        sound, durations = (x.ravel() for x in self.session.run(None, feeds))
        labels = on_grid(per_unit(phonemes, durations))
        return Spoken(sound, labels, per_word(spans(phonemes, durations, 0.0), text))
