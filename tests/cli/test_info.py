"""`moshi-mlx info`: for people and for programs, also of what is not here."""

import json

import pytest

from moshi_mlx.checkpoint.bandwidth import CHIPS, reach
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.source import Source
from moshi_mlx.cli.chips import VERDICTS, names_of
from moshi_mlx.cli.info import describe, size
from moshi_mlx.cli.main import main
from tests.checkpoint.folders import write
from tests.tiny import BASE, CONDITIONED, DATA


def told(capsys: pytest.CaptureFixture[str], *args: str) -> dict:
    assert main(["info", *args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_demo_is_described(capsys):
    facts = told(capsys, "demo")
    assert facts["files_here"] and facts["files"][0]["format"] == "mlx"
    assert facts["network"]["codebooks_own"] == 8
    assert facts["network"]["context_s"] == 10.0
    assert facts["parts"]["text head"]["layers"] == {"4 bits": 1}
    assert facts["step_bytes"] > facts["memory_bytes"]["codec"] > 1e6
    assert {"chip", "live", "source"} <= set(facts["chips_computed_not_measured"][0])


def test_people_get_tables(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["info", "demo"]) == 0
    shown = capsys.readouterr().out
    for word in ("temporal transformer", "not measured", "12.3 M"):
        assert word in shown.replace("\n", " ")
    assert "fast enough  all" in shown and "M3 Ultra" not in shown


def test_every_chip_is_listed_where_asked(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["info", "demo", "--chips"]) == 0
    shown = capsys.readouterr().out
    for chip in CHIPS:
        assert f" {chip.name} " in shown and chip.source in shown


def test_chips_are_grouped_by_whether_they_keep_up():
    rows = [{"chip": r.chip.name, "live": r.verdict} for r in reach(26 * 10**9)]
    grouped = {verdict: names_of(rows, verdict) for verdict in VERDICTS}
    assert grouped["yes"][:2] == ["M1 Ultra", "M2 Ultra"]
    assert "M4 Max (40-core GPU)" in grouped["yes"]  # its versions differ
    assert "M4 Max (32-core GPU)" in grouped["tight"]
    assert "A18 Pro" in grouped["no"]
    rows = [{"chip": r.chip.name, "live": r.verdict} for r in reach(15 * 10**9)]
    assert names_of(rows, "yes").count("M3 Max") == 1  # these agree
    assert names_of([{"chip": "M1", "live": "yes"}], "yes") == ["all"]


def test_pytorch_files_conditions_and_voices(capsys, tmp_path):
    folder = write(
        tmp_path,
        **CONDITIONED,
        model_type="tts",
        model_id={"sig": "1e68beda", "epoch": 240},
    )
    (tmp_path / "anna.wav.1e68beda@240.safetensors").write_bytes(b"")
    facts = told(capsys, str(folder))
    assert facts["files"][0]["format"] == "pytorch"
    assert facts["conditions"] == {"mood": ["sad", "glad"], "voice": 5}
    assert facts["voices"]["in_folder"] == ["anna.wav.1e68beda@240.safetensors"]


def test_speech_to_text_has_no_depth(capsys):
    facts = told(capsys, str(DATA / "lm_stt"))
    assert facts["network"]["depth"] is None
    assert facts["network"]["codebooks_own"] == 0


@pytest.mark.parametrize(
    "repo, bits", [("o/m-mlx-q4", 5.0), ("o/m-mlx-q8", 16.0), ("o/m-bf16", 16.0)]
)
def test_what_is_not_here_is_supposed_from_its_name(repo, bits, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    wide = {**BASE, "card": 4000, "text_card": 8000}  # tables outweigh norms
    facts = describe(CheckpointInfo(repo, Source(repo=repo), wide))
    assert not facts["files_here"] and facts["files"] == []
    # widths of 32 do not divide into q8's groups of 64
    assert facts["bits_per_weight"] == pytest.approx(bits, abs=0.1)


def test_bits_that_config_json_states(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    block = {"group_size": 32, "bits": 4, "mode": "affine", "text_linear": False}
    config = {**BASE, "quantization": block}
    facts = describe(CheckpointInfo("o/m", Source(repo="o/m"), config))
    assert facts["parts"]["text head"]["layers"] == {"bfloat16": 1}
    assert facts["parts"]["embeddings"]["layers"] == {"4 bits": 7}
    assert facts["unquantised"] == {"text_linear": "not quantised"}


def test_a_name_that_is_none_is_one_line(capsys):
    assert main(["info", "./nowhere"]) == 1
    assert "there is no folder './nowhere'" in capsys.readouterr().err


def test_sizes_are_decimal():
    assert [size(n) for n in (12, 1234, 5.6e6, 4.81e9)] == [
        "12 B",
        "1.2 kB",
        "5.6 MB",
        "4.81 GB",
    ]


def test_a_codec_is_told_from_its_config(capsys, tmp_path):
    """Its weights may not be here, so nothing may be made of a config of its kind."""
    (tmp_path / "config.json").write_bytes(
        (DATA / "transformers" / "mimi" / "config.json").read_bytes()
    )
    assert main(["info", str(tmp_path)]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "is a Mimi codec of up to 4 codebooks and no language model: use it" in told
