"""The text stream is moshi-finetune's, for its own cases."""

import json
from typing import Any

import numpy as np
import pytest

from moshi_mlx.finetune.words import (
    SpokenWord,
    TextRules,
    encoder,
    frames_of,
    text_stream,
)
from tests.learning import LORA

GOLDEN: dict[str, Any] = json.loads((LORA / "interleaver.json").read_text())


class Letters:
    """The golden data's tokenizer: a = 10, b = 11 ..., line break 7, no others."""

    def encode(self, text: str) -> list[int]:
        return [ord(c) - ord("a") + 10 for c in text if c.isalpha()]

    def piece_to_id(self, piece: str) -> int:
        return {"<0x0A>": 7}[piece]


ENCODE = encoder(Letters())  # type: ignore[arg-type]


def rules(options: dict[str, Any]) -> TextRules:
    return TextRules(
        delay_s=-options.get("audio_delay", 0.0),
        main_only=options.get("keep_main_only", False),
        shift=options.get("keep_and_shift", False),
        in_word=options.get("in_word_padding"),
        turns=(1, 2) if options.get("use_bos_eos") else None,
    )


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_streams_are_moshi_finetune_s(case: dict[str, Any]):
    words = case["alignments"]
    if words is not None:
        words = [SpokenWord(text, start, end, who) for text, (start, end), who in words]
    frames = frames_of(case["duration"])
    found = text_stream(words, frames, ENCODE, rules(case["options"]))
    assert found.tolist() == case["stream"]


def test_frames_cover_a_time():
    assert [frames_of(s) for s in (0.08, 0.081, 10, 0.24)] == [1, 2, 125, 3]


def test_words_behind_the_end_are_left_out():
    late = [SpokenWord("a", 3.0, 3.1)]
    assert np.array_equal(text_stream(late, 10, ENCODE), np.full(10, 3))
