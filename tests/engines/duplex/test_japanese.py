"""J-Moshi and LLM-jp-Moshi: another tokenizer under the same name, and no spaces.

A tiny stand-in: random weights, and a SentencePiece model of Japanese made here.
"""

import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

import moshi_mlx
from moshi_mlx.checkpoint.info import TOKENIZER_NAME, CheckpointInfo
from moshi_mlx.documents.recording import Recording, read_words
from moshi_mlx.documents.transcript import Layout, Timed, cues, srt, txt, words
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.duplex.greeting import greeting_tokens
from moshi_mlx.utils.text import PieceReader
from tests.checkpoint.folders import write_with_codec
from tests.tiny import BASE

SENTENCES = [
    "今日はいい天気ですね。",
    "そうですね、散歩に行きましょう。",
    "はい、ぜひ行きたいです。",
    "うん、GPTのことは知っています。",
    "えーと、もう一度お願いします。",
]


def tokenizer_bytes(vocabulary: int) -> bytes:
    """As rinna's: 0 is unknown (Moshi's end of padding), 3 is padding, no first "▁"."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(  # type: ignore[attr-defined]
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=model,
        vocab_size=vocabulary,
        hard_vocab_limit=False,
        character_coverage=1.0,
        add_dummy_prefix=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("j-moshi")
    tokenizer = tokenizer_bytes(96)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    write_with_codec(folder, **{**BASE, "card": 64, "text_card": len(pieces)})
    config = json.loads((folder / "config.json").read_text())
    del config["tokenizer_name"]  # found by its usual name
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.model").unlink()
    (folder / TOKENIZER_NAME).write_bytes(tokenizer)
    return folder


def tokenizer(folder: Path) -> sentencepiece.SentencePieceProcessor:
    file = str(folder / TOKENIZER_NAME)
    return sentencepiece.SentencePieceProcessor(model_file=file)


def test_the_folder_s_own_tokenizer_is_used_under_the_usual_name(folder):
    assert CheckpointInfo.find(folder).tokenizer == folder / TOKENIZER_NAME


@pytest.mark.parametrize("sentence", SENTENCES)
def test_pieces_joined_are_the_sentence(folder, sentence):
    pieces = tokenizer(folder)
    reader = PieceReader(pieces)
    tokens = pieces.encode(sentence)
    padded = [t for token in tokens for t in (token, 3, 0)]
    said = "".join(reader.read(token) for token in padded)
    assert said == pieces.decode(tokens) and " " not in said


def test_what_the_model_says_has_no_spaces(folder):
    moshi = moshi_mlx.load(folder)
    assert isinstance(moshi, Moshi)
    noise = np.random.default_rng(0).normal(0, 0.1, (40, 1920)).astype(np.float32)
    session = moshi.session(seed=1)
    replies = [session.step(frame) for frame in noise]
    tokens = [r.text_token for r in replies if r.text_token not in (0, 3)]
    said = "".join(reply.text for reply in replies)
    assert len(said) > 5 and " " not in said
    assert said == tokenizer(folder).decode(tokens)


SAID = ["今日はいい天気ですね。", "そうですね、GPTのことです。"]


def pieces() -> list[Timed]:
    parts = [
        "今日",
        "は",
        "いい",
        "天気",
        "です",
        "ね",
        "。",
        "そう",
        "です",
        "ね",
        "、",
        "GPT",
        "の",
        "こと",
        "です",
        "。",
    ]
    return [Timed(part, i * 0.2, i * 0.2 + 0.1) for i, part in enumerate(parts)]


def test_subtitles_break_at_sentences_and_keep_every_letter():
    shown = list(cues(pieces()))
    assert [cue.text for cue in shown] == SAID
    assert txt(pieces()).count("\n") == 2
    narrow = srt(pieces(), Layout(line_width=6, lines=2))
    lines = [line for line in narrow.splitlines() if line and "0" not in line]
    lines = [line for line in lines if not line.isdigit()]
    assert max(map(len, lines)) <= 6
    assert "".join(lines) == "".join(SAID)


def test_words_are_short_and_joined_without_spaces(tmp_path):
    found = words(pieces())
    assert " ".join(w.text for w in found[:7]) == "今日 は いい 天気 です ね。 そう"
    with Recording(tmp_path / "talk.wav") as recording:
        silence = np.zeros(1920, np.float32)
        for piece in pieces():
            recording.add(silence, silence, piece.text)
    read = "".join(word.text for word in read_words(tmp_path / "talk.json"))
    assert read.strip() == "".join(SAID)


def test_words_of_other_scripts_keep_their_spaces(tmp_path):
    with Recording(tmp_path / "talk.wav") as recording:
        silence = np.zeros(1920, np.float32)
        for piece in (" Hel", "lo.", " How", " are", " you"):
            recording.add(silence, silence, piece)
    read = "".join(word.text for word in read_words(tmp_path / "talk.json"))
    assert read == " Hello. How are you"


def test_what_is_said_first_comes_at_the_pace_of_speech(folder):
    moshi = moshi_mlx.load(folder)
    tokenizer, cfg = moshi.tokenizer, moshi.lm.cfg
    tokens = greeting_tokens(tokenizer, cfg, SENTENCES[1])
    silent = cfg.text_padding_token, cfg.text_end_padding_token
    spoken = [token for token in tokens if token not in silent]
    assert tokenizer.decode(spoken) == SENTENCES[1]
    assert 2 * len(SENTENCES[1]) <= len(tokens) <= 4 * len(SENTENCES[1])
    assert not any({*pair}.isdisjoint(silent) for pair in pairwise(tokens))
