"""What a client may ask for in its address."""

import re

import pytest

from moshi_mlx.errors import ProtocolError
from moshi_mlx.serve.opus import OpusReader, OpusWriter, PcmReader, PcmWriter
from moshi_mlx.serve.personas import MAX_TEXT
from moshi_mlx.serve.protocols.moshi.settings import read_settings


def test_settings_leave_to_the_model_what_nobody_asked_for():
    settings = read_settings({})
    wishes = settings.wishes
    assert (wishes.temp, wishes.top_k, wishes.temp_text, wishes.top_k_text) == (
        None,
    ) * 4
    assert (settings.format, settings.queue, settings.seeded) == ("opus", False, False)
    assert wishes.seed != read_settings({}).wishes.seed


@pytest.mark.parametrize(
    "query, seed",
    [
        ({"seed": "5", "text_seed": "6"}, 5),
        ({"text_seed": "6"}, 6),
        ({"audio_seed": "7"}, 7),
        ({"text_seed": "8", "audio_seed": "8"}, 8),
        ({"text_seed": "1", "audio_seed": "2"}, 1_000_005),
        ({"text_seed": str(2**53), "audio_seed": "3"}, 3),
        ({"text_seed": str(2**52), "audio_seed": "3"}, 2**52 + 3),
    ],
)
def test_two_seeds_become_one(query, seed):
    settings = read_settings(query)
    assert settings.wishes.seed == seed and settings.seeded


RANGES = {
    "text_temperature": (0, 5),
    "audio_temperature": (0, 5),
    "text_topk": (0, 100_000),
    "audio_topk": (0, 100_000),
    "repetition_penalty": (0.1, 10),
    "audio_repetition_penalty": (0.1, 10),
    "repetition_penalty_context": (0, 256),
    "seed": (0, 2**53),
    "text_seed": (0, 2**53),
    "audio_seed": (0, 2**53),
    "image_resolution": (1, 4096),
    "xa_start": (0, 1_000_000),
}


@pytest.mark.parametrize("name", RANGES)
def test_numbers_have_a_range_and_its_ends_are_in_it(name):
    least, most = RANGES[name]
    words = re.escape(f"must be a number from {least:g} to {most:g}.")
    for value in (least, most):
        read_settings({name: str(value)})
    for value in (least - 1, most + most / 10, "nan", "x"):
        with pytest.raises(ProtocolError, match=f"^{name}='.*' {words}$"):
            read_settings({name: str(value)})


def test_penalties_are_off_unless_they_are_asked_for():
    wishes = read_settings({}).wishes
    assert (wishes.repetition_penalty, wishes.audio_repetition_penalty) == (1, 1)
    asked = {"repetition_penalty": "1.2", "audio_repetition_penalty": "1.1"}
    wishes = read_settings(asked).wishes
    assert (wishes.repetition_penalty, wishes.audio_repetition_penalty) == (1.2, 1.1)


@pytest.mark.parametrize(
    "name, reader, writer",
    [("pcm", PcmReader, PcmWriter), ("opus", OpusReader, OpusWriter)],
)
def test_a_format_reads_and_writes(name, reader, writer):
    settings = read_settings({"format": name.upper()})
    assert type(settings.reader()) is reader and type(settings.writer()) is writer


def test_a_persona_may_have_its_full_length():
    assert read_settings({"text_prompt": "x" * MAX_TEXT}).persona == "x" * MAX_TEXT
    with pytest.raises(ProtocolError, match=f"text_prompt has {MAX_TEXT + 2} char"):
        read_settings({"text_prompt": "x" * (MAX_TEXT + 2)})


def test_a_penalty_without_context_looks_nowhere():
    wishes = read_settings({"repetition_penalty_context": "0"}).wishes
    assert wishes.repetition_context == 0
