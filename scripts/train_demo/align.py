"""When each word and phone of a shard is spoken, by pocketsphinx's forced alignment.

    python align.py data/moshi.npz    -> data/moshi.npz.align.json

One entry per utterance: ``words``, each with start and duration in seconds, and
``phones``, the phone's number for every 10 ms; null where the alignment failed.
"""

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from shards import load

if TYPE_CHECKING:
    from pocketsphinx import Decoder

_PHONES = """
    SIL AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T
    TH UH UW V W Y Z ZH
"""
PHONES = _PHONES.split()
MISSING_WORDS = {"moshi": "M OW SH IY", "fsh": "F SH"}
PAD = 2400  # samples of silence around an utterance: 10 of the 10 ms steps


def words_of(text: str) -> str:
    """A sentence as its words are compared: lower case, without punctuation."""
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower()).split())


def to_16k(wav: np.ndarray) -> np.ndarray:
    """int16 range at 24 kHz to int16 at 16 kHz: low-pass, then linear interpolation,
    which is good enough for pocketsphinx."""
    taps = np.sinc(np.arange(-12, 13) * 0.62) * np.hamming(25)
    smooth = np.convolve(wav.astype(np.float32), taps / taps.sum(), "same")
    wanted = np.arange(len(smooth) * 2 // 3) * 1.5
    found = np.interp(wanted, np.arange(len(smooth)), smooth)
    return found.clip(-32768, 32767).astype(np.int16)


def make_decoder() -> "Decoder":
    """A decoder that knows all our words."""
    from pocketsphinx import Decoder  # not needed where only training runs

    decoder = Decoder(samprate=16000, lm=None, loglevel="FATAL")
    for word, phones in MISSING_WORDS.items():
        decoder.add_word(word, phones, True)
    return decoder


def listen(decoder: "Decoder", sound: bytes) -> None:
    """Run the current search over a whole utterance."""
    decoder.start_utt()
    decoder.process_raw(sound, full_utt=True)
    decoder.end_utt()


def align(decoder: "Decoder", wav: np.ndarray, text: str) -> dict[str, Any] | None:
    """Align one utterance; None where pocketsphinx does not find all its words."""
    sound = to_16k(np.pad(wav, PAD)).tobytes()
    try:
        decoder.set_align_text(text)
        listen(decoder, sound)  # the words
        decoder.set_alignment()
        listen(decoder, sound)  # the phones in them
        found = decoder.get_alignment()
        words = [
            (word.name.split("(")[0], (word.start - 10) / 100, word.duration / 100)
            for word in found
            if word.name[0] != "<"
        ]
        if [word[0] for word in words] != text.split():
            return None
        phones = [
            PHONES.index(phone.name) if phone.name in PHONES else 0
            for phone in found.phones()
            for _ in range(phone.duration)
        ]
    except RuntimeError:
        return None
    return {"words": words, "phones": phones[10:]}


def read_alignment(shard: Path) -> list[dict[str, Any] | None] | None:
    """What was found for a shard; None where it has not been aligned."""
    path = Path(f"{shard}.align.json")
    return json.loads(path.read_text()) if path.exists() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shard", type=Path)
    shard = parser.parse_args().shard
    decoder = make_decoder()
    found = [align(decoder, u.wav, words_of(u.meta["text"])) for u in load(shard)]
    Path(f"{shard}.align.json").write_text(json.dumps(found))
    print(shard, "aligned", sum(a is not None for a in found), "of", len(found))


if __name__ == "__main__":
    main()
