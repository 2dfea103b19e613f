"""Conversations that begin after a prompt: a voice, a persona, and their caching."""

import gc
import shutil
import tarfile
import wave
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.audio import FRAME, write_wav
from moshi_mlx.audio.loudness import loudness
from moshi_mlx.engines.duplex import persona as prompts
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.duplex.persona import persona_tokens
from moshi_mlx.engines.duplex.persona_frames import encoded
from moshi_mlx.engines.duplex.persona_voices import (
    load_voice,
    save_voice,
    voice_names,
)
from moshi_mlx.engines.duplex.sampling import Sampling
from moshi_mlx.engines.duplex.session import DuplexSession
from moshi_mlx.errors import AudioError, CheckpointError, ConfigError
from moshi_mlx.models import LmGen
from tests.audio.made import made
from tests.persona import personaplex_folder
from tests.tiny import DATA

SILENCE = np.zeros(FRAME, np.float32)
VOICES = DATA / "personaplex"
GREEDY = {"temp": 0, "temp_text": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return personaplex_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def moshi(folder: Path) -> Moshi:
    return moshi_mlx.load(folder)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sounds") / "me.wav"
    rng = np.random.default_rng(0)
    write_wav(path, (0.1 * rng.standard_normal(30_000)).astype(np.float32))
    return path


def said(session: DuplexSession, count: int = 6) -> list[list[int]]:
    replies = [session.step(SILENCE) for _ in range(count)]
    assert all(reply.pcm is not None for reply in replies), "N frames for N frames"
    return [[r.text_token, *np.array(r.tokens).tolist()] for r in replies]


def test_voice_and_persona_change_what_is_said(moshi, recording):
    found = [
        said(moshi.session(1, persona=text, voice=voice, **GREEDY))
        for text in ("", "You teach.")
        for voice in (None, recording)
    ]
    assert len({str(one) for one in found}) == 4
    again = said(moshi.session(2, persona="You teach.", voice=recording, **GREEDY))
    assert again == found[-1]
    assert said(moshi.session(3, **GREEDY)) == found[0], "no persona is an empty one"


def test_a_prompt_is_read_once_and_few_are_kept(moshi, monkeypatch):
    calls = []
    real = LmGen.prefilling

    def counted(self: LmGen, *args: Any, **options: Any) -> Iterator[None]:
        calls.append(1)
        return real(self, *args, **options)

    monkeypatch.setattr(LmGen, "prefilling", counted)
    said(moshi.session(1, persona="You wait."))
    said(moshi.session(1, persona="You wait."))
    assert len(calls) == 1
    for n in range(prompts.KEPT + 1):
        moshi.session(1, persona="You " + "so " * (n + 1))
    assert len(moshi.prompts._kept) == prompts.KEPT
    moshi.session(1, persona="You wait.")
    assert len(calls) == 3 + prompts.KEPT


def test_rows_of_a_batch_are_whom_they_would_be_alone(moshi, recording):
    """A row begins with its prompt while another is in the middle of its talk."""
    alone = [
        said(moshi.session(seed, persona=text), 4)
        for seed, text in ((5, "You teach."), (6, "You sing."))
    ]
    with moshi.batch(2) as batch:
        first = batch.open(Sampling(seed=5), start=moshi.start("You teach."))
        found = said(first, 2)
        second = batch.open(Sampling(seed=6), start=moshi.start("You sing."))
        both = [batch.step([first, second], [SILENCE] * 2) for _ in range(2)]
        found += [[r.text_token, *r.tokens.tolist()] for r, _ in both]
        assert found == alone[0]
        other = [[r.text_token, *r.tokens.tolist()] for _, r in both]
        assert other + said(second, 2) == alone[1]


def test_a_snapshot_before_the_first_frame_keeps_what_the_prompt_chose(moshi):
    session = moshi.session(9, persona="You teach.")
    kept = session.snapshot()
    other = moshi.session(4)
    other.restore(kept)
    texts = [[s.step(SILENCE).text for _ in range(5)] for s in (session, other)]
    assert texts[0] == texts[1]


def test_a_persona_stands_between_marks(moshi):
    tokenizer = moshi.tokenizer
    plain = persona_tokens(tokenizer, " You teach. ")
    assert plain == tokenizer.encode("<system> You teach. <system>")
    assert persona_tokens(tokenizer, "<system> You teach. <system>") == plain
    assert persona_tokens(tokenizer, "  ") == []


def test_voices_come_from_files_folders_and_archives(
    moshi, folder, recording, tmp_path
):
    for name in ("voice.pt", "voice.safetensors"):
        voice = load_voice(VOICES / name, moshi.info)
        assert voice.embeddings is not None and voice.embeddings.shape == (8, 48)
    unpacked = folder / "voices"
    unpacked.mkdir()
    try:
        shutil.copy(VOICES / "voice.pt", unpacked / "NATF2.pt")
        assert load_voice("NATF2", moshi.info).cache is not None
        with tarfile.open(folder / "voices.tgz", "w:gz") as tar:
            tar.add(VOICES / "voice_bf16.pt", "voices/VARM1.pt")
        assert voice_names(moshi.info) == ["NATF2", "VARM1"]
        found = load_voice("VARM1.pt", moshi.info).embeddings
        assert found is not None and found.dtype == mx.bfloat16
        with pytest.raises(CheckpointError, match="no voice 'NATX': it has NATF2, VAR"):
            load_voice("NATX", moshi.info)
    finally:
        shutil.rmtree(unpacked)
        (folder / "voices.tgz").unlink(missing_ok=True)


def test_a_voice_that_is_exported_sounds_the_same(moshi, recording, tmp_path):
    voice = load_voice(recording, moshi.info)
    assert voice.pcm is not None
    codes = encoded(moshi.make_codec, voice.pcm)
    save_voice(voice, codes, tmp_path / "me.safetensors")
    found = [
        said(moshi.session(1, voice=file))
        for file in (recording, tmp_path / "me.safetensors")
    ]
    assert found[0] == found[1]
    with pytest.raises(CheckpointError, match=r"name it .*me\.safetensors"):
        save_voice(voice, codes, tmp_path / "me.wav")


def test_recordings_of_every_kind_are_voices(moshi, tmp_path, caplog):
    """Stereo is mixed, other rates are resampled, and 30 seconds are enough."""
    noise = (0.1 * np.random.default_rng(0).standard_normal((2, 60 * 24_000))).astype(
        np.float32
    )
    write_wav(tmp_path / "long.wav", noise[0])
    pcm = load_voice(tmp_path / "long.wav", moshi.info).pcm
    assert pcm is not None and len(pcm) == 30 * 24_000
    assert load_voice(tmp_path / "long.wav", moshi.info).pcm is pcm, "read once"
    assert loudness(pcm, 24_000) == pytest.approx(-24, abs=0.05)
    assert not caplog.records, "long enough"
    with wave.open(str(tmp_path / "stereo.wav"), "wb") as file:
        file.setparams((2, 2, 24_000, 0, "NONE", ""))
        file.writeframes((noise[:, :24_000].T * 32767).astype("<i2").tobytes())
    (tmp_path / "phone.m4a").write_bytes(made("m4a"))
    for path in (tmp_path / "stereo.wav", tmp_path / "phone.m4a"):
        assert load_voice(path, moshi.info).frames
        assert "10 to 30 seconds of clean speech make a better" in caplog.text
        caplog.clear()


def test_what_is_no_voice_or_persona_gets_one_sentence(moshi, tmp_path):
    with pytest.raises(CheckpointError, match="no voice file"):
        moshi.session(voice="voices/me.wav")
    with pytest.raises(CheckpointError, match="no voice 'NATF2': it comes with none"):
        moshi.session(voice="NATF2")
    write_wav(tmp_path / "short.wav", np.zeros(8000, np.float32))
    with pytest.raises(AudioError, match=r"short\.wav cannot be used: it has 0.3 s"):
        moshi.session(voice=tmp_path / "short.wav")
    write_wav(tmp_path / "quiet.wav", np.zeros(80_000, np.float32))
    with pytest.raises(AudioError, match="silent"):
        moshi.session(voice=tmp_path / "quiet.wav")
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(AudioError, match=r"the voice text\.wav cannot be used"):
        moshi.session(voice=tmp_path / "text.wav")
    with pytest.raises(ConfigError, match="17 streams, the model 48 and 13"):
        moshi.session(voice=VOICES / "voice.pt")
    mx.save_safetensors(str(tmp_path / "a.safetensors"), {"a": mx.zeros(3)})
    with pytest.raises(CheckpointError, match="not a voice of PersonaPlex"):
        moshi.session(voice=tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match=r"tokens, and .* takes up to 50: shorten it"):
        moshi.session(persona="You teach. " * 60)
    long = tmp_path / "long.safetensors"
    mx.save_safetensors(str(long), {"codes": mx.zeros((6, 80), mx.int32)})
    assert moshi.session(voice=long) is not None
    with pytest.raises(ConfigError, match=r"take \d+ frames, and .* looks back on 100"):
        moshi.session(voice=long, persona="You teach people.")
    with pytest.raises(ConfigError, match="takes no persona or voice: use one like"):
        moshi_mlx.load("demo").session(persona="You teach.")


def test_guidance_is_refused_in_one_sentence(moshi):
    with pytest.raises(ConfigError, match="takes a persona and no guidance"):
        moshi.session(cfg_coef=2.0)


def test_a_model_that_nobody_holds_is_freed_at_once(folder):
    gc.collect()
    gc.disable()
    try:
        own = moshi_mlx.load(folder)
        assert own.start("You teach.") is not None
        gone = weakref.ref(own)
        del own
        assert gone() is None
    finally:
        gc.enable()
