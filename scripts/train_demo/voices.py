"""Synthesisers that tell when each phone is spoken: hibari, Kokoro and flite.

hibari has one voice, ``heart``, and its spectra and pitch can be turned into those of
other speakers. Kokoro has 54 voices, and others between two of them. Both decide how
many units each phone lasts; one more output of their graphs tells us. flite's voices
were made from recordings of people; it prints its phones.
"""

import json
import re
import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.io import wavfile
from scipy.signal import resample_poly
from shards import IGNORE, SAMPLE_RATE, SILENCE, UNIT, Span, Spoken

STRESS, LENGTH, BREAKS = "ˈˌ", "ː", ' .,!?;:—…"()“”'  # noqa: RUF001

# Kokoro's voices that training never hears: six to measure with, three for the end.
MEASURED = ["af_nova", "am_puck", "bf_isabella", "am_michael", "bf_emma", "bm_george"]
KEPT = ["af_kore", "am_onyx", "bm_lewis"]
FLITE = ["rms", "rms", "awb", "awb", "slt", "kal16"]
ESPEAK = ["en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029"]
VARIANTS = ["", *(f"+{kind}{n}" for kind in "mf" for n in range(1, 6))]
ARPABET = """
    aa=ɑ ae=æ ah=ʌ ao=ɔ aw=W ax=ə ay=I b=b ch=ʧ d=d dh=ð eh=ɛ er=ɜɹ ey=A f=f g=ɡ hh=h
    ih=ɪ iy=i jh=ʤ k=k l=l m=m n=n ng=ŋ ow=O oy=Y p=p r=ɹ s=s sh=ʃ t=t th=θ uh=ʊ uw=u
    v=v w=w y=j z=z zh=ʒ
"""  # noqa: RUF001
SPELT = dict(pair.split("=") for pair in ARPABET.split())

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


class Phones:
    """Numbers of the phones; stress joins the phone after it, length the one before."""

    def __init__(self, vocabulary: dict[str, int]):
        letters = sorted(c for c in vocabulary if c not in STRESS + LENGTH + BREAKS)
        self.number = {c: i + 1 for i, c in enumerate(letters)}
        self.names = ["", *letters]

    def per_unit(self, phonemes: str, durations: np.ndarray) -> np.ndarray:
        """``durations`` include the silence at both ends."""
        kinds = [SILENCE, *(self.number.get(c, SILENCE) for c in phonemes), SILENCE]
        inside = range(1, len(kinds) - 1)
        for i in inside:
            if phonemes[i - 1] == LENGTH:
                kinds[i] = kinds[i - 1]
            elif phonemes[i - 1] == " ":
                kinds[i] = IGNORE
        for i in reversed(inside):
            if phonemes[i - 1] in STRESS:
                kinds[i] = kinds[i + 1]
        return np.repeat(np.array(kinds, np.uint8), durations.astype(int))


def spans(phonemes: str, durations: np.ndarray, start: float) -> list[Span]:
    """Start and end of each spoken word."""
    edges = start + np.cumsum(durations) * UNIT / SAMPLE_RATE
    found, first = [], None
    for i, c in enumerate([*phonemes, " "]):
        if c not in BREAKS and first is None:
            first = edges[i]
        elif c in BREAKS and first is not None:
            found.append((round(float(first), 3), round(float(edges[i]), 3)))
            first = None
    return found


def per_word(found: list[Span], text: str) -> list[Span]:
    """Spans of the written words: evenly spread where more or fewer are spoken."""
    n = len(text.split())
    if len(found) == n:
        return found
    edges = np.linspace(found[0][0], found[-1][1], n + 1).round(3).tolist()
    return list(pairwise(edges))


def with_durations(source: str, output: str, copy: Path) -> str:
    """A copy of an ONNX file that also returns the durations."""
    import onnx

    if not copy.exists():
        model, kind = onnx.load(source), onnx.TensorProto.FLOAT
        model.graph.output.append(
            onnx.helper.make_tensor_value_info(output, kind, None)
        )
        copy.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, copy)
    return str(copy)


class Hibari:
    """Any speaker that hibari's spectra and pitch can be turned into."""

    DURATIONS = "/Clip_output_0"

    def __init__(self, folder: Path):
        import hibari

        self.dsp = hibari.dsp
        assets = Path(hibari.__file__).parent / "assets"
        copy = folder / "hibari_durations.onnx"
        model = with_durations(str(assets / "hibari.onnx"), self.DURATIONS, copy)
        self.model = hibari.Hibari(model=model)
        self.outputs = [output.name for output in self.model.sess.get_outputs()]
        self.phones = Phones(json.loads((assets / "vocab.json").read_text()))

    def __call__(self, text: str, voice: Voice, rng: np.random.Generator) -> Spoken:
        pitch, warp, speed, spread, breath = voice
        sounds, phones, words, t = [], [], [], 0.0
        for phonemes in self.model.phonemize(text):
            ids = np.array([self.model.ids(phonemes)], np.int64)
            feeds = {"ids": ids, "speed": np.array([speed], np.float32)}
            outputs = self.model.sess.run(None, feeds)
            found = dict(zip(self.outputs, outputs, strict=True))
            durations = found[self.DURATIONS].ravel()
            parts = ("lh", "theta", "ln", "lr", "phi", "f0")
            lh, th, ln, lr, phi, f0 = (found[name][0] for name in parts)
            if warp != 1.0:  # stretch the frequency axis
                source = np.clip(np.arange(601) / warp, 0, 600)
                low = np.floor(source).astype(int).clip(0, 599)
                part = (source - low).astype(np.float32)[:, None]
                lh, ln, lr = (
                    x[low] * (1 - part) + x[low + 1] * part for x in (lh, ln, lr)
                )
                nearest = np.round(source).astype(int)
                th, phi = th[nearest], phi[nearest]
            voiced = f0 > 40
            middle = np.exp(np.log(f0[voiced]).mean()) if voiced.any() else 180.0
            curve = middle * pitch * (np.maximum(f0, 40) / middle) ** spread
            f0 = np.where(voiced, curve, 0).astype(np.float32)
            lh, ln = lh + np.float32(0.5 * np.log(pitch)), ln + np.float32(breath)
            sounds.append(self.dsp.synth(lh, th, ln, lr + 0, phi, f0, rng))
            phones.append(self.phones.per_unit(phonemes, durations))
            words += spans(phonemes, durations, t)
            t += len(sounds[-1]) / SAMPLE_RATE
        wav, kinds = np.concatenate(sounds), np.concatenate(phones)
        return Spoken(wav, kinds, per_word(words, text))


class Kokoro:
    """Kokoro's voices; ``a+b`` is a speaker between two of them.

    Args:
        folder: where its graph is kept with the durations added.
        model: ``kokoro.int8.onnx``.
        voices: folder of the voices' ``.bin`` files.
    """

    DURATIONS = "/encoder/Clip_output_0"

    def __init__(self, folder: Path, model: Path, voices: Path):
        import hibari
        import onnxruntime
        from hibari.g2p import G2P

        assets = Path(hibari.__file__).parent / "assets"
        self.ids = json.loads((assets / "vocab.json").read_text())
        self.phones = Phones(self.ids)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        copy = folder / "kokoro_durations.onnx"
        path = with_durations(str(model), self.DURATIONS, copy)
        self.session = onnxruntime.InferenceSession(path, options)
        self.g2p = {False: G2P(), True: G2P(british=True)}
        self.styles = {
            path.stem: np.fromfile(path, np.float32).reshape(-1, 256)
            for path in sorted(voices.glob("*.bin"))
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
        phonemes = "".join(c for c in phonemes if c in self.ids)
        style, *other = (self.styles[v][len(phonemes)] for v in voice.split("+"))
        if other:
            style = style * share + other[0] * (1 - share)
        feeds = {
            "tokens": np.array([[0, *(self.ids[c] for c in phonemes), 0]], np.int64),
            "style": style[None].astype(np.float32),
            "speed": np.array([speed], np.float32),
        }
        sound, durations = (x.ravel() for x in self.session.run(None, feeds))
        labels = self.phones.per_unit(phonemes, durations)
        return Spoken(sound, labels, per_word(spans(phonemes, durations, 0.0), text))


def espeak(text: str, rng: np.random.Generator) -> Spoken:
    """espeak-ng by a random variant; nothing is known of its phones."""
    how = str(rng.choice(ESPEAK)) + str(rng.choice(VARIANTS))
    command = ["espeak-ng", "--stdout", "-v", how, text]
    command += ["-s", str(rng.integers(130, 200)), "-p", str(rng.integers(20, 80))]
    done = subprocess.run(command, check=True, capture_output=True)
    wav = np.frombuffer(done.stdout[44:], np.int16) / np.float32(32768)
    sound = resample_poly(wav, 160, 147).astype(np.float32)  # 22,050 Hz
    unknown = np.full(len(sound) // UNIT, IGNORE, np.uint8)
    return Spoken(sound, unknown, per_word([(0.0, len(sound) / SAMPLE_RATE)], text))


def flite(text: str, voice: str, stretch: float, phones: Phones) -> Spoken:
    """The words are spread evenly: flite does not tell where they start."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        command = ["flite", "-voice", voice, "-psdur", "-t", text, "-o", file.name]
        command += ["--setf", f"duration_stretch={stretch:.3f}"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rate, wav = wavfile.read(file.name)
    sound = resample_poly(
        wav.astype(np.float32) / 32768, SAMPLE_RATE // 1000, rate // 1000
    )
    kinds = np.zeros(len(sound) // UNIT, np.uint8)
    start, spoken = 0.0, []
    for name, end in re.findall(r"(\w+):([\d.]+)", done.stdout):
        letters = SPELT.get(name, "")
        edges = np.linspace(start, float(end), max(1, len(letters)) + 1)
        units = (edges * SAMPLE_RATE / UNIT).round().astype(int)
        for letter, first, last in zip(letters, units, units[1:], strict=False):
            kinds[first:last] = phones.number[letter]
        if letters:
            spoken.append((start, float(end)))
        start = float(end)
    return Spoken(sound, kinds, per_word([(spoken[0][0], spoken[-1][1])], text))
