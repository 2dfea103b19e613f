"""`moshi-mlx complete` and what it stands on: a causal prompt, streamed text."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.build import load_lm
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.engines.text import TextModel
from moshi_mlx.engines.text.session import CHUNK
from moshi_mlx.errors import ConfigError
from moshi_mlx.finetune.trainable import add_adapters
from moshi_mlx.models import Lm
from tests.family import run, writing
from tests.speech import TTS, speaker, tokenizer

PROMPT = "hello there how are you"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return writing(tmp_path_factory.mktemp("helium"))


def greedy(lm, prompt: str, count: int) -> list[int]:
    """Token by token, the whole text anew each time."""
    tokens = [1, *tokenizer().encode(prompt)]
    start = len(tokens)
    for _ in range(count):
        cache = lm.transformer.make_rot_cache()
        logits = lm.text_linear(lm.hidden(mx.array([tokens]), None, cache))
        tokens.append(int(np.array(logits[0, -1]).argmax()))
    return tokens[start:]


@pytest.mark.parametrize("repeat", [1, 60])
def test_a_completion_is_what_the_whole_text_predicts(model, repeat: int):
    lm = load_lm(CheckpointInfo.find(model))
    prompt = " ".join([PROMPT] * repeat)
    assert (len(tokenizer().encode(prompt)) > CHUNK) == (repeat > 1)
    expected = greedy(lm, prompt, 8)
    assert 2 not in expected
    pieces = list(TextModel(lm, tokenizer()).complete(prompt, 8, temp=0.0))
    assert len(pieces) == 8
    written = [tokenizer().id_to_piece(t).replace("▁", " ") for t in expected]
    assert [p for p in pieces if p] == [w for w in written if not w.startswith("<")]


def test_completions_do_not_touch_each_other(model):
    lm = load_lm(CheckpointInfo.find(model))

    def begin(seed: int):
        return TextModel(lm, tokenizer()).complete(PROMPT, 12, temp=1.0, seed=seed)

    alone = [list(begin(seed)) for seed in (1, 2)]
    pairs = zip(begin(1), begin(2), strict=False)
    assert [list(side) for side in zip(*pairs, strict=True)] == [
        side[: min(map(len, alone))] for side in alone
    ]
    assert alone[0] != alone[1]


@pytest.mark.parametrize("ends", [False, True])
def test_no_step_is_launched_ahead_of_the_one_that_runs(model, monkeypatch, ends):
    """It would copy the keys and values; so the last token has no step after it."""
    lm, steps, hidden = load_lm(CheckpointInfo.find(model)), [], Lm.hidden

    def counted(*args, **options):
        steps.append(options)
        return hidden(lm, *args, **options)

    def third_ends(logits: mx.array) -> tuple[mx.array, mx.array]:
        return mx.array([[2 if ends and len(steps) == 3 else 5]]), logits

    monkeypatch.setattr(lm, "hidden", counted)
    written = list(TextModel(lm, tokenizer()).complete(PROMPT, 6, sampler=third_ends))  # type: ignore
    assert len(written) == (2 if ends else 6)
    assert len(steps) == (3 if ends else 6)


def test_a_model_that_hears_is_refused():
    with pytest.raises(ConfigError, match="use a text model"):
        TextModel(speaker().lm, tokenizer())


def test_the_prompt_and_its_continuation_are_printed(model, capsys):
    args = ("--model", model, "--seed", 5, "--steps", 12)
    assert run("complete", PROMPT, *args) == 0
    printed = capsys.readouterr().out
    assert run("complete", "--prompt", PROMPT, *args, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert printed == f"{PROMPT}{found['completion']}\n"
    assert found["seed"] == 5


def test_adapters_change_what_is_written(model, tmp_path, capsys):
    found = add_adapters(load_lm(CheckpointInfo.find(model)), rank=2)
    mx.random.seed(2)
    arrays = {n: 0.3 * mx.random.normal(w.shape) for n, w in found.arrays.items()}
    mx.save_safetensors(str(tmp_path / "lora.safetensors"), arrays)
    args = ("complete", PROMPT, "--steps", 12, "--temp", 0, "--json")
    given = ("--weights", model / "model.safetensors")
    given = (*given, "--tokenizer", TTS / "tokenizer.model")
    given = (*given, "--lm-config", model / "config.json")
    said = []
    for more in (("--model", model), ("--model", model, "--adapter", tmp_path)):
        assert run(*args, *more) == 0
        said.append(json.loads(capsys.readouterr().out)["completion"])
    assert said[0] != said[1]
    assert run(*args, *given, "--adapter", tmp_path) == 0
    assert json.loads(capsys.readouterr().out)["completion"] == said[1]


def test_quantised_weights_are_saved_and_load_again(model, tmp_path, capsys):
    saved = tmp_path / "model.q8.safetensors"
    args = ("--seed", 5, "--steps", 6, "--temp", 0, "--json")
    more = ("-q", 8, "--group-size", 32)
    code = run(
        "complete", PROMPT, "--model", model, *args, *more, "--save-quantized", saved
    )
    assert code == 0
    first = json.loads(capsys.readouterr().out)
    given = ("--weights", saved, "--tokenizer", TTS / "tokenizer.model")
    given = (*given, "--lm-config", model / "config.json")
    assert run("complete", PROMPT, *given, *args) == 0
    assert json.loads(capsys.readouterr().out) == first


@pytest.mark.parametrize(
    "args, sentence",
    [
        ((), "nothing to continue"),
        (("hi", "--save-quantized", "x"), "add -q BITS"),
        (("hi", "--model", "demo"), "use a text model"),
    ],
)
def test_refusals_are_one_sentence(capsys, args, sentence):
    assert run("complete", *args) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "Error" in line]
    assert len(errors) == 1 and sentence in errors[0]
