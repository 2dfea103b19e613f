"""`moshi-mlx finetune` and `fuse`: from recordings to a model that uses them."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.checkpoint.build import load_lm
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.quantize import is_quantized
from moshi_mlx.cli.main import main
from moshi_mlx.errors import ConfigError
from moshi_mlx.finetune.config_file import read_config
from moshi_mlx.finetune.loss import LossWeights, losses
from moshi_mlx.finetune.prepare import load_model
from moshi_mlx.finetune.settings import TrainSettings
from tests.checkpoint.folders import tensors, write_with_codec
from tests.finetune.made import listed, recording
from tests.learning import LORA
from tests.tiny import BASE, DATA, codes, greedy, heard, number, run

CARD = json.loads((DATA / "tts" / "config.json").read_text())
SIZES = {"text_card": CARD["text_card"], "card": 64}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model with its codec and tokenizer."""
    return write_with_codec(tmp_path / "model", **SIZES)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three short recordings, one of them to evaluate on."""
    folder = tmp_path / "data"
    words = [("hello", 0.2, 0.5), ("there", 0.6, 0.9)]
    lines = [recording(folder, f"r{n}", 1.0 + n / 5, words, seed=n) for n in range(3)]
    listed(folder / "train.jsonl", *lines[:2])
    listed(folder / "valid.jsonl", lines[2])
    return folder


SHORT = ["--window", "1.6", "--iters", "4", "--save-every", "2", "--rank", "2"]
SHORT += ["--steps-per-report", "2", "--learning-rate", "1e-2"]


def test_it_trains_resumes_and_is_used(
    capsys: pytest.CaptureFixture[str], model: Path, data: Path, tmp_path: Path
):
    out = tmp_path / "run"
    args = ["finetune", "--model", model, "--data", data, "--adapter-path", out, *SHORT]
    assert main(list(map(str, args))) == 0
    said = capsys.readouterr().out
    assert "2 windows of 1.6 s to learn from, 1 to evaluate on" in said
    assert "Computed, not measured" in said
    assert "Iter 4: Train loss" in said and "Val loss" in said
    page = (out / "report.html").read_text()
    assert page.count("<audio") == 2  # of the one recording to evaluate on
    assert page.count("<polyline") == 4 + 2
    assert main(list(map(str, args))) == 1
    assert "go on with it with --resume" in capsys.readouterr().err
    assert main([*map(str, args), "--resume"]) == 0  # it is done already
    info = CheckpointInfo.find(model)
    tuned = CheckpointInfo.find(model, lora_weights=out)
    frames = heard(load_lm(info), 1, 10)
    before, after = (run(greedy(load_lm(found)), frames) for found in (info, tuned))
    assert (before != after).any()
    # every command and program takes them
    replies = []
    for given in ([], ["--adapter", out]):
        wav = tmp_path / f"{len(given)}.wav"
        respond = ["respond", data / "r0.wav", wav, "--model", model, "--seed", "1"]
        assert main([*map(str, [*respond, *given])]) == 0
        replies.append(wav.read_bytes())
    assert replies[0] != replies[1]
    engine = moshi_mlx.load(str(model), adapter=out)
    replies.append(engine.respond(data / "r0.wav", seed=1).pcm)
    assert np.abs(replies[2]).max() > 0
    # merged into the weights, it says the same
    fused = ["fuse", "--model", model, "--adapter-path", out]
    assert main([*map(str, [*fused, "--save-path", tmp_path / "fused"])]) == 0
    merged = load_lm(CheckpointInfo.find(tmp_path / "fused"))
    assert (run(greedy(merged), frames) == after).all()
    assert (tmp_path / "fused" / "tokenizer.model").is_file()
    # and travels to mlx-lm
    theirs = [*fused, "--save-adapter", tmp_path / "theirs", "--form", "mlx-lm"]
    assert main(list(map(str, theirs))) == 0
    other = load_lm(CheckpointInfo.find(model, lora_weights=tmp_path / "theirs"))
    for name, w in tensors(load_lm(tuned)).items():
        assert mx.array_equal(tensors(other)[name], w), name


def test_yaml_of_mlx_lm_and_of_kyutai_mean_the_same(
    capsys: pytest.CaptureFixture[str], model: Path, data: Path, tmp_path: Path
):
    (tmp_path / "mlx.yaml").write_text(
        f"model: {model}\ndata: {data}\ntrain: true\niters: 2\nlearning_rate: 1e-2\n"
        f"adapter_path: {tmp_path}/one\nwindow: 1.6\noptimizer: adamw\n"
        "lora_parameters: {rank: 2, scale: 2.0, dropout: 0.0}\nsave-every: 0\n"
        "grad_accumulation_steps: 2\noptimizer_config: {adamw: {betas: [0.9, 0.95]}}\n"
    )
    (tmp_path / "kyutai.yaml").write_text(
        f"data:\n  train_data: {data}/train.jsonl\n  eval_data: {data}/valid.jsonl\n"
        f"  shuffle: true\nrun_dir: {tmp_path}/two\nmax_steps: 2\nduration_sec: 1.6\n"
        "lora: {enable: true, rank: 2, scaling: 2.0, ft_embed: false}\n"
        "optim: {lr: 1e-2, weight_decay: 0.1, pct_start: 0.05}\nbatch_size: 1\n"
        f"num_microbatches: 2\nmoshi_paths: {{hf_repo_id: {model}}}\nlog_freq: 1\n"
        "param_dtype: bfloat16\ndo_eval: true\neval_freq: 100\n"
    )
    for name in ("mlx", "kyutai"):
        assert main(["finetune", "--config", str(tmp_path / f"{name}.yaml")]) == 0
    one, two = (
        json.loads((tmp_path / run / "metrics.jsonl").read_text().splitlines()[-1])
        for run in ("one", "two")
    )
    assert one["step"] == 2
    assert one["valid_loss"] == two["valid_loss"]
    capsys.readouterr()


def test_quantised_models_ears_and_personas_are_trained(
    capsys: pytest.CaptureFixture[str], model: Path, data: Path, tmp_path: Path
):
    packed = tmp_path / "q4"
    assert main(["quantize", str(model), str(packed), "--recipe", "q4"]) == 0
    listens = {"dep_q": 0, "n_q": 3, "delays": [0] * 4, "model_type": "stt"}
    listens["stt_config"] = {"audio_delay_seconds": 0.5}
    ear = write_with_codec(tmp_path / "ear", **SIZES, **listens)
    sees_ahead = {"dep_q": 6, "n_q": 6, "model_type": "personaplex"}
    persona = write_with_codec(tmp_path / "persona", **SIZES, **sees_ahead)
    for name, given in (("q4", packed), ("ear", ear), ("persona", persona)):
        args = ["finetune", "--model", given, "--data", data, *SHORT]
        out = tmp_path / f"run-{name}"
        args += ["--adapter-path", out, "--grad-checkpoint"]
        assert main(list(map(str, args))) == 0, capsys.readouterr().err
        adapted = CheckpointInfo.find(given, lora_weights=out)
        load_lm(adapted)
    capsys.readouterr()


def test_on_a_cpu_quantised_weights_train_as_floats_of_the_same_values(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
):
    packed = tmp_path / "q4"
    assert main(["quantize", str(model), str(packed), "--recipe", "q4"]) == 0
    settings = TrainSettings(model=str(packed), data="x")
    info, floats = load_model(settings)
    assert not is_quantized(floats)
    config = {**BASE, **SIZES}
    streams = codes(config, 1, 8)
    one, two = (losses(m, streams, LossWeights()) for m in (floats, load_lm(info)))
    assert number(one.total) == pytest.approx(number(two.total), rel=1e-5)
    full = TrainSettings(model=str(packed), data="x", fine_tune_type="full")
    assert is_quantized(load_model(full)[1])  # and is refused later
    capsys.readouterr()


def test_all_weights_may_be_trained(
    capsys: pytest.CaptureFixture[str], model: Path, data: Path, tmp_path: Path
):
    args = ["finetune", "--model", model, "--data", data, *SHORT]
    args += ["--adapter-path", tmp_path / "run", "--fine-tune-type", "full"]
    assert main(list(map(str, args))) == 0
    before = tensors(load_lm(CheckpointInfo.find(model)))
    given = CheckpointInfo.find(
        model, moshi_weights=tmp_path / "run" / "model.safetensors"
    )
    after = tensors(load_lm(given))
    assert not mx.array_equal(before["text_emb.weight"], after["text_emb.weight"])
    use = f"--moshi-weights {tmp_path / 'run'}/model.safetensors"
    assert f"try it with {use}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args, words",
    [
        ([], "there is no model to train: give --model"),
        (["--model", "MODEL"], "there is no data to train: give --data"),
        (["--model", "MODEL", "--data", "gone"], "there is no data 'gone'"),
        (["--model", "MODEL", "--data", "DATA", "--rank", "0"], "--rank is 0"),
        (["--model", "MODEL", "--data", "DATA", "--keys", "q_proj"], "called q_proj"),
        (["--config", "gone.yaml"], "'gone.yaml' cannot be read"),
        (["--model", str(LORA), "--data", "DATA", "--window", "-1"], "--window is -1"),
    ],
)
def test_rude_input_gets_a_sentence(
    capsys: pytest.CaptureFixture[str],
    model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    words: str,
):
    monkeypatch.chdir(tmp_path)
    named = {"MODEL": str(model), "DATA": str(data)}
    assert main(["finetune", *(named.get(arg, arg) for arg in args)]) == 1
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_numbers_of_mlx_lm_s_example_are_numbers(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text(
        "iters: 1000\nlearning_rate: 1e-5\nlr_schedule:\n  name: cosine_decay\n"
        "  warmup: 100\n  warmup_init: 1e-7\n  arguments: [1e-5, 1000, 1e-7]\n"
    )
    stated, _ = read_config(file)
    rates = TrainSettings().with_values(stated).rates()
    assert rates(0).rate == pytest.approx(1e-7)
    assert rates(100).rate == pytest.approx(1e-5)
    assert rates(1100).rate == pytest.approx(1e-7)


@pytest.mark.parametrize(
    "text, words",
    [
        ("iters: many", "the setting iters is 'many': give a value like 300"),
        ("itres: 3", "the setting 'itres' is unknown"),
        ("- 1", "should hold settings"),
        ("a: [", "is no YAML"),
        ("optimizer: sgd", "the optimizer sgd is not supported"),
        ("lr_schedule: {name: up}", "lr_schedule 'up' is unknown"),
        ("run_dir: x\nmax_step: 3", "which moshi-finetune does not know"),
    ],
)
def test_bad_yaml_gets_a_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, words: str
):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    args = ["--model", "x", "--data", "y", "--config", str(file)]
    assert main(["finetune", *args]) == 1
    assert words in capsys.readouterr().err


def test_a_model_that_speaks_texts_is_refused(
    capsys: pytest.CaptureFixture[str], data: Path
):
    speaks = str(DATA / "tts")
    assert main(["finetune", "--model", speaks, "--data", str(data)]) == 1
    assert "is a tts model, which is not trained here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, words",
    [
        ("a: " + "[" * 5000, "is no YAML"),
        ("x: \x00", "is no YAML"),
        ("a" * (2 << 20), "it has more than 1 MiB"),
        (
            "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(
                f"{n}: &{n} [{', '.join(10 * [f'*{m}'])}]\n"
                for m, n in zip("abcdefgh", "bcdefghi", strict=True)
            ),
            "it holds more than 10000 values",
        ),
    ],
    ids=["deep", "control", "long", "aliases"],
)
def test_a_hostile_config_is_a_sentence(tmp_path, text, words):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_config(tmp_path / "config.yaml")
