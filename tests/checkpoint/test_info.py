"""A checkpoint is found by name; what it leaves out is known; files come when asked."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import moshi_mlx
from moshi_mlx.checkpoint import source as source_module
from moshi_mlx.checkpoint.info import BASE_REPO, MIMI_NAME, CheckpointInfo
from moshi_mlx.checkpoint.moshi_7b import MOSHI_7B
from moshi_mlx.errors import CheckpointError, ConfigError
from tests.checkpoint.folders import write
from tests.tiny import BASE
from tests.utils.hub_server import COMMIT, REPO, FakeHub, serving


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    yield from serving(tmp_path, monkeypatch)


def config(folder: Path, **data: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(data))
    return folder


def asked(hub: FakeHub) -> set[str]:
    return {file for _, file, _ in hub.requests if file}


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_folder_is_found(tmp_path, form):
    folder = write(tmp_path / "model")
    info = CheckpointInfo.find(form.format(folder))
    assert info.moshi_weights == [folder / "model.safetensors"]
    assert info.lm_config.audio_codebooks == BASE["n_q"]
    assert info.model_type == "moshi"


def test_a_weights_file_is_found_with_its_folder(tmp_path):
    folder = write(tmp_path, name="other.safetensors")
    info = CheckpointInfo.find(folder / "other.safetensors")
    assert info.moshi_weights == [folder / "other.safetensors"]
    assert info.config["dim"] == BASE["dim"]


def test_of_a_repository_only_what_is_asked_for_is_fetched(hub):
    hub.files = {"config.json": json.dumps(BASE).encode(), "model.safetensors": b"w"}
    info = CheckpointInfo.find(REPO)
    assert info.config["dim"] == BASE["dim"]
    assert asked(hub) == {"config.json"}
    assert info.moshi_weights[0].read_bytes() == b"w"
    assert asked(hub) == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("name", [f"{REPO}@{COMMIT}", f"hf://{REPO}@{COMMIT}"])
def test_a_revision_may_stand_in_the_name(hub, name):
    hub.files = {"config.json": json.dumps(BASE).encode()}
    info = CheckpointInfo.find(name)
    assert (info.source.repo, info.source.revision) == (REPO, COMMIT)
    assert CheckpointInfo.find(REPO, revision=COMMIT).source == info.source


def test_a_repository_without_config_holds_moshi_7b(hub):
    hub.files = {"model.safetensors": b"w", MIMI_NAME: b"m"}
    info = CheckpointInfo.find(REPO)
    cfg = info.lm_config
    assert info.config == MOSHI_7B
    assert (cfg.transformer.d_model, cfg.transformer.num_layers) == (4096, 32)
    assert cfg.transformer.gated_width == 11264
    assert cfg.audio_delays == [0, 1, 1, 1, 1, 1, 1, 1] * 2
    assert info.mimi_weights.read_bytes() == b"m"
    assert (info.mimi_config, info.num_codebooks) == (None, 8)


def test_a_repository_without_config_may_name_its_weights_by_bits(hub):
    hub.files = {"model.q4.safetensors": b"4"}
    assert CheckpointInfo.find(REPO).moshi_weights[0].read_bytes() == b"4"


def test_named_files_of_the_config_are_used(hub, tmp_path):
    hub.files = {"codec": b"m", "words": b"t", "codec.json": b'{"channels": 1}'}
    folder = config(
        tmp_path / "model",
        **BASE,
        moshi_name="lm.safetensors",
        mimi_name=f"hf://{REPO}/codec",
        mimi_config_name=f"hf://{REPO}/codec.json",
        tokenizer_name=f"hf://{REPO}/words",
    )
    (folder / "lm.safetensors").write_bytes(b"w")
    info = CheckpointInfo.find(folder)
    assert info.moshi_weights == [folder / "lm.safetensors"]
    assert info.mimi_weights.read_bytes() == b"m"
    assert info.tokenizer.read_bytes() == b"t"
    assert info.mimi_config == {"channels": 1}


def test_files_given_by_the_user_come_first(tmp_path):
    folder = write(tmp_path / "model", moshi_name="model.safetensors", mimi_name="m")
    for name in ("w", "c", "t", "l"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "j").write_text('{"frame_rate": 12.5}')
    info = CheckpointInfo.find(
        folder,
        moshi_weights=str(tmp_path / "w"),
        mimi_weights=tmp_path / "c",
        mimi_config=tmp_path / "j",
        tokenizer=tmp_path / "t",
        lora_weights=tmp_path / "l",
        config=config(tmp_path, **{**BASE, "n_q": 6}) / "config.json",
    )
    assert info.moshi_weights == [tmp_path / "w"]
    assert info.mimi_weights == tmp_path / "c"
    assert info.tokenizer == tmp_path / "t"
    assert info.lora_weights == tmp_path / "l"
    assert info.mimi_config == {"frame_rate": 12.5}


def test_weights_in_parts_are_found_by_their_index(tmp_path):
    folder = config(tmp_path, **BASE)
    parts = ["model-1.safetensors", "model-2.safetensors"]
    index = {"weight_map": {"a": parts[0], "b": parts[1], "c": parts[0]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for part in parts:
        (folder / part).write_bytes(b"")
    assert CheckpointInfo.find(folder).moshi_weights == [folder / p for p in parts]


def test_settings_of_the_commands_are_handed_on(tmp_path):
    folder = config(
        tmp_path,
        **BASE,
        model_type="tts",
        lm_gen_config={"temp": 0.6},
        tts_config={"multistream": True},
        stt_config={"audio_delay_seconds": 0.5},
        model_id={"sig": "1e68beda", "epoch": 240},
    )
    info = CheckpointInfo.find(folder)
    assert info.model_type == "tts"
    assert info.lm_gen_config == {"temp": 0.6}
    assert info.stt_config == {"audio_delay_seconds": 0.5}
    assert info.model_id["epoch"] == 240
    assert info.num_codebooks == 1, "max(3, 3), and half of it for each speaker"


@pytest.mark.parametrize("n_q, dep_q, expected", [(6, 3, 3), (32, 0, 32), (8, 8, 8)])
def test_the_codec_has_the_codebooks_of_the_larger_side(tmp_path, n_q, dep_q, expected):
    folder = config(tmp_path, **{**BASE, "n_q": n_q, "dep_q": dep_q})
    assert CheckpointInfo.find(folder).num_codebooks == expected


@pytest.mark.parametrize(
    "kind, says",
    [
        ("moshi", {}),
        ("moshi", {"moshi_name": "model.q4.safetensors", "stt_config": {}}),
        ("stt", {"stt_config": {"audio_delay_seconds": 0.5}}),
        ("tts", {"tts_config": {"audio_delay": 1.28}}),
        ("hibiki", {"moshi_name": "hibiki-mlx-dc2cf5a5@80.safetensors"}),
    ],
)
def test_a_config_without_model_type_is_known_by_its_other_keys(tmp_path, kind, says):
    assert CheckpointInfo.find(config(tmp_path, **BASE, **says)).model_type == kind
    named = config(tmp_path, **BASE, **says, model_type="moshi")
    assert CheckpointInfo.find(named).model_type == "moshi"


def test_personaplex_is_moshi_with_both_sides_predicted(tmp_path):
    folder = config(tmp_path / "personaplex-7b-v1", version="v1")
    info = CheckpointInfo.find(folder)
    assert info.model_type == "personaplex"
    assert (info.lm_config.generated_codebooks, info.num_codebooks) == (8, 8)
    assert info.lm_config.depformer.num_slices == 16
    assert info.config["dim"] == 4096


def test_a_config_of_moshi_s_with_sixteen_depth_steps_is_personaplex(tmp_path):
    """As programs that fine-tune it write it."""
    sizes = {**MOSHI_7B, "dep_q": 16, "lora": False}
    info = CheckpointInfo.find(config(tmp_path / "mine", **sizes))
    assert info.kind.takes_persona and info.num_codebooks == 8
    speaking = config(tmp_path / "tts", **sizes, tts_config={"audio_delay": 1.0})
    assert CheckpointInfo.find(speaking).model_type == "tts"


def test_personaplex_with_streams_that_cannot_be_is_told(tmp_path):
    for key in ("n_q", "dep_q"):
        folder = config(tmp_path / key, model_type="personaplex", **{key: "many"})
        with pytest.raises(ConfigError, match=f"config has {key} 'many'"):
            CheckpointInfo.find(folder)


def test_of_a_personaplex_in_several_sizes_the_one_asked_for_is_taken(tmp_path):
    folder = config(tmp_path / "personaplex", version="v1")
    for name in ("model.safetensors", "model.q4.safetensors"):
        (folder / name).write_bytes(b"")
    names = [
        CheckpointInfo.find(folder, bits=bits).moshi_weights[0].name
        for bits in (None, 4, 8)
    ]
    assert names == ["model.safetensors", "model.q4.safetensors", "model.safetensors"]


@pytest.mark.parametrize("bits, kind", [(None, "bf16"), (4, "q4"), (3, "bf16")])
def test_helium_without_config_is_known_by_its_name(tmp_path, bits, kind):
    folder = tmp_path / "helium-1-preview-2b-mlx"
    folder.mkdir()
    for found in ("bf16", "q4", "q8"):
        (folder / f"helium-1-preview-2b-{found}.safetensors").write_bytes(b"")
    info = CheckpointInfo.find(folder, bits=bits)
    assert info.model_type == "helium"
    assert info.lm_config.text_in_vocab_size == 48000
    assert info.moshi_weights[0].name == f"helium-1-preview-2b-{kind}.safetensors"


def test_adapters_alone_build_on_moshi(hub, tmp_path, monkeypatch):
    """What moshi-finetune writes: adapters, and the base's config with ``lora``."""
    hub.files = {"model.safetensors": b"base", MIMI_NAME: b"codec"}
    monkeypatch.setattr("moshi_mlx.checkpoint.info.BASE_REPO", REPO)
    folder = config(tmp_path / "consolidated", **BASE, lora=True)
    (folder / "lora.safetensors").write_bytes(b"")
    info = CheckpointInfo.find(folder)
    assert info.lora_weights == folder / "lora.safetensors"
    assert info.moshi_weights[0].read_bytes() == b"base"
    assert info.mimi_weights.read_bytes() == b"codec"
    assert BASE_REPO == "kyutai/moshiko-pytorch-bf16"


def test_merged_weights_need_no_adapters(tmp_path):
    folder = config(tmp_path, **BASE, lora=True)
    for name in ("lora.safetensors", "consolidated.safetensors"):
        (folder / name).write_bytes(b"")
    info = CheckpointInfo.find(folder)
    assert info.moshi_weights == [folder / "consolidated.safetensors"]
    assert info.lora_weights is None


def test_a_fine_tune_is_found_by_the_folder_above_too(tmp_path):
    folder = write(tmp_path / "consolidated", name="consolidated.safetensors")
    found = CheckpointInfo.find(tmp_path).moshi_weights
    assert found == [folder / "consolidated.safetensors"]


def test_the_demo_is_in_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "DEMO_FOLDER", write(tmp_path / "demo"))
    assert CheckpointInfo.find("demo").config["dim"] == BASE["dim"]
    monkeypatch.setattr(source_module, "DEMO_FOLDER", tmp_path / "gone")
    with pytest.raises(CheckpointError, match="lacks the built-in model"):
        CheckpointInfo.find("demo")


@pytest.mark.parametrize("name", [None, "", " ", 3, b"demo"])
def test_what_is_no_name_at_all_is_said_to_be_none(name):
    sentence = rf"expected a model's name, not {re.escape(repr(name))}: .* 'demo'"
    for load in (moshi_mlx.load, moshi_mlx.load_stt, moshi_mlx.load_tts):
        with pytest.raises(CheckpointError, match=sentence):
            load(name)


@pytest.mark.parametrize("name", ["moshiko", "./models/x", "/no/such/folder", "a/b/c"])
def test_a_name_that_is_nothing_says_what_a_name_can_be(name):
    with pytest.raises(CheckpointError, match=r"there is no folder .* OWNER/NAME"):
        CheckpointInfo.find(name)


def test_a_folder_without_weights_is_named(tmp_path):
    info = CheckpointInfo.find(config(tmp_path, **BASE))
    with pytest.raises(CheckpointError, match=r"holds no language model: expected"):
        _ = info.moshi_weights


def test_nothing_is_fetched_for_a_folder_without_weights(hub, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"holds no language model: expected"):
        _ = CheckpointInfo.find(tmp_path / "empty").tokenizer
    assert not hub.requests


def test_a_file_that_the_config_names_must_be_there(tmp_path):
    info = CheckpointInfo.find(config(tmp_path, **BASE, moshi_name="gone.safetensors"))
    with pytest.raises(CheckpointError, match=r"has no file 'gone\.safetensors'"):
        _ = info.moshi_weights


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_a_broken_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(
        CheckpointError, match=r"config\.json' (cannot be read|should hold)"
    ):
        CheckpointInfo.find(tmp_path)


def test_values_that_cannot_be_are_told_before_any_file_is_fetched(tmp_path):
    for wrong in ({"mimi_name": 5}, {"lm_gen_config": {"temp": "hot"}}):
        folder = config(tmp_path, **{**BASE, **wrong})
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            CheckpointInfo.find(folder)


def test_unknown_layouts_of_the_transformers_library_are_refused(tmp_path):
    folder = config(tmp_path, architectures=["KyutaiSpeechToText"], hidden_size=2048)
    with pytest.raises(CheckpointError, match="describes a KyutaiSpeechToText of"):
        CheckpointInfo.find(folder)
