"""The list of what the demo is to know keeps what training and measuring rely on."""

import importlib
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from scripts.train_demo.intents import INTENTS, NAMES, PATTERNS, TEXTS, worded


def test_every_intent_has_wordings_to_train_on_and_others_to_measure_with():
    assert len(INTENTS) >= 80
    for intent in INTENTS.values():
        assert len(intent.known) >= 8
        assert len(intent.held_out) >= 2


def test_as_many_wordings_as_ever_are_kept_out_and_none_comes_twice():
    """They were a fifth of the first list; what was added since is all learnt."""
    known = [w for intent in INTENTS.values() for w in intent.known]
    held_out = [w for intent in INTENTS.values() for w in intent.held_out]
    assert len(held_out) == 199
    counts = Counter(wording.lower() for wording in known + held_out)
    assert [wording for wording, n in counts.items() if n > 1] == []


def test_every_label_has_an_answer_of_its_own():
    assert len(NAMES) == len(TEXTS) == len(set(TEXTS)) == len(INTENTS) + 1


def test_patterns_reword_every_intent_in_plain_words():
    rng = random.Random(0)
    assert [name for name in PATTERNS if name[0] != "<"] == list(INTENTS)
    for name in INTENTS:
        wordings = {worded(name, rng) for _ in range(40)}
        assert len(wordings) > 12, name
        assert all(re.fullmatch(r"[A-Za-z' ]+", wording) for wording in wordings)


@pytest.mark.parametrize(
    ("voice", "text"),
    [
        ("af_nova", "How are you?"),
        ("af_bella+bm_lewis", "How are you?"),
        ("joe", "How are you?"),
        ("other", INTENTS["joke"].held_out[0].capitalize() + "?"),
    ],
)
def test_training_refuses_what_is_kept_for_measuring(
    tmp_path, monkeypatch, voice, text
):
    recipe = Path(__file__).parents[1] / "scripts" / "train_demo"
    monkeypatch.syspath_prepend(str(recipe))
    shards = importlib.import_module("shards")
    said = shards.Spoken(np.ones(4800, np.float32), np.zeros(10, np.int8), [])
    fine = shards.utterance(said, "af_bella", "How are you?")
    shards.save(tmp_path / "kokoro_known_0", [fine])
    assert len(shards.of_kind(tmp_path, "kokoro_known")) == 1
    shards.save(tmp_path / "kokoro_known_1", [shards.utterance(said, voice, text)])
    with pytest.raises(ValueError, match="is not to train on"):
        shards.of_kind(tmp_path, "kokoro_known")
