"""Sound alone becomes recordings with words; what cannot be learnt from is told."""

import json
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.audio.files import write_wav
from moshi_mlx.cli.main import main
from moshi_mlx.documents.words import Word
from moshi_mlx.errors import ConfigError
from moshi_mlx.finetune.annotate import annotate, sounds_in, write_lists
from moshi_mlx.finetune.recordings import find_sources
from tests.checkpoint.folders import write_with_codec
from tests.finetune.made import sound
from tests.tiny import DATA

WORDS = [Word("hello", 0.2, 0.5), Word("", 0.5, 0.6), Word("you", 0.7, 0.7)]
WORDS += [Word("there", 0.8, 1.0)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Recordings, good and bad."""
    good = sound(1.5)
    write_wav(tmp_path / "good.wav", good)
    write_wav(tmp_path / "good2.wav", sound(1.0, seed=1))
    write_wav(tmp_path / "mono.wav", good[0])
    write_wav(tmp_path / "same.wav", np.stack([good[0], good[0]]))
    write_wav(tmp_path / "silent.wav", good * np.array([[0], [1]]))
    write_wav(tmp_path / "clipped.wav", np.clip(good * 20, -1, 1))
    write_wav(tmp_path / "alone.wav", good * np.array([[1], [0]]))
    (tmp_path / "text.wav").write_text("no sound at all, but long enough to be read")
    return tmp_path


def hear(pcm: np.ndarray) -> list[Word]:
    assert pcm.ndim == 1
    return WORDS


def test_words_are_written_and_bad_recordings_dropped(folder: Path):
    found = {done.path.stem: done for done in annotate(sounds_in(folder), hear)}
    dropped = {name: done.dropped for name, done in found.items() if done.dropped}
    assert dropped.keys() == {"mono", "same", "silent", "text"}
    assert "1 channel(s) and 2 are needed" in dropped["mono"]
    assert dropped["same"] == "both channels hold the same sound"
    assert dropped["silent"] == "channel 0 is silent"
    assert "not a sound file" in dropped["text"]
    assert any("is clipped in" in remark for remark in found["clipped"].remarks)
    assert any("both sides speak" in remark for remark in found["good"].remarks)
    assert found["alone"].remarks == ["channel 1 is silent"]
    assert found["good"].words == 2
    data = json.loads((folder / "good.json").read_text())["alignments"]
    assert data == [
        ["hello", [0.2, 0.5], "SPEAKER_MAIN"],
        ["there", [0.8, 1.0], "SPEAKER_MAIN"],
    ]
    assert not (folder / "mono.json").exists()
    lists = write_lists(folder, list(found.values()), 0.25, None)
    assert [path.name for path in lists] == ["train.jsonl", "valid.jsonl"]
    (source,) = find_sources(str(folder))
    (valid,) = find_sources(str(folder), "valid")
    assert len(source.recordings) == 3 and len(valid.recordings) == 1
    assert source.recordings[0].words()


def test_transcripts_that_are_there_stay(folder: Path):
    mine = '{"alignments": [["mine", [0, 1], "SPEAKER_MAIN"]]}'
    (folder / "good.json").write_text(mine)
    (kept,) = annotate([folder / "good.wav"], hear)
    assert kept.words == 1 and "good.json was there and stays" in kept.remarks
    assert (folder / "good.json").read_text() == mine
    (new,) = annotate([folder / "good.wav"], hear, overwrite=True)
    assert new.words == 2
    (folder / "good.json").write_text("other")
    with pytest.raises(ConfigError, match="is no transcript: remove it"):
        annotate([folder / "good.wav"], hear)


def test_recordings_without_words_are_dropped(folder: Path):
    found = annotate([folder / "mono.wav"], lambda _: [], channels=1)
    assert found[0].dropped == "no words were heard in it"
    with pytest.raises(ConfigError, match="nothing is left to learn from"):
        write_lists(folder, found, 0.1, 0)


def test_the_command_reports_what_it_dropped(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    card = json.loads((DATA / "tts" / "config.json").read_text())["text_card"]
    ear = write_with_codec(
        tmp_path / "ear",
        **{"text_card": card, "card": 64, "dep_q": 0, "n_q": 3, "delays": [0] * 4},
        model_type="stt",
        stt_config={"audio_delay_seconds": 0.5},
    )
    args = ["annotate", str(folder), "--model", str(ear)]
    code = main([*args, "--json"])
    said = capsys.readouterr()
    if code:  # a random model may hear no words at all
        assert "nothing is left to learn from" in said.err
        return
    told = json.loads(said.out)
    dropped = {Path(r["path"]).stem for r in told["recordings"] if r["dropped"]}
    assert {"mono", "same", "silent", "text"} <= dropped
    assert main(args) == 0
    assert "mono.wav: dropped, it has 1 channel(s)" in capsys.readouterr().err


def test_a_folder_that_is_none_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["annotate", str(tmp_path / "gone")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert main(["annotate", str(tmp_path)]) == 1
    assert "holds no recordings" in capsys.readouterr().err
