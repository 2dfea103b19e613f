"""Conversations about images: alone, together, and with models that see none."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.audio import FRAME
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.duplex.sampling import Sampling
from moshi_mlx.engines.duplex.session import DuplexSession
from moshi_mlx.engines.duplex.sights import IMAGE_START, Sight, Sights
from moshi_mlx.errors import ConfigError, ImageError
from tests.vision import picture, vis_folder

GREEDY: dict[str, Any] = {"temp": 0, "temp_text": 0}
FRAMES = 26


@pytest.fixture(scope="module")
def moshi(tmp_path_factory) -> Moshi:
    return moshi_mlx.load(vis_folder(tmp_path_factory.mktemp("vis")))


def sound() -> list[np.ndarray]:
    noise = np.random.default_rng(1).standard_normal(FRAMES * FRAME) * 0.1
    return list(noise.astype(np.float32).reshape(FRAMES, FRAME))


def said_in(session: DuplexSession) -> list[tuple[int, float | None]]:
    replies = [session.step(frame) for frame in sound()]
    return [(reply.text_token, reply.gate) for reply in replies]


def test_an_image_is_seen_from_its_step_on(moshi):
    blind = said_in(moshi.session(**GREEDY))
    seeing = said_in(moshi.session(**GREEDY, image=picture()))
    first = IMAGE_START - 1  # the session has given the first frame twice
    assert [gate for _, gate in blind] == [None] * FRAMES
    assert [gate for _, gate in seeing[:first]] == [None] * first
    assert seeing[:first] == blind[:first]
    gates = [gate for _, gate in seeing[first:]]
    assert all(gate is not None and 0.05 < gate < 0.9 for gate in gates)
    assert [t for t, _ in seeing[first:]] != [t for t, _ in blind[first:]]


def test_an_image_is_encoded_once_and_shown_to_many(moshi, monkeypatch):
    source = moshi.encode_image(picture())
    assert source.shape == (1, 16, 64)
    monkeypatch.setattr(moshi, "image_encoder", None)
    sessions = [moshi.session(**GREEDY) for _ in range(2)]
    for session in sessions:
        session.show(source, start=0)
    one, other = (said_in(session) for session in sessions)
    assert one == other and one[0][1] is not None


def test_rows_of_a_batch_see_each_their_own(moshi):
    sources = [moshi.encode_image(picture(0)), None, moshi.encode_image(picture(1))]
    starts = [0, 0, 20]
    alone = []
    for source, start in zip(sources, starts, strict=True):
        session = moshi.session(**GREEDY, first="silence")
        session.show(source, start)
        alone.append(said_in(session))
    batch = moshi.batch(3)
    rows = [batch.open(Sampling(**GREEDY)) for _ in sources]
    for session, source, start in zip(rows, sources, starts, strict=True):
        session.show(source, start)
    together = [batch.step(rows, [frame] * 3) for frame in sound()]
    for row, expected in enumerate(alone):
        found = [replies[row] for replies in together]
        assert [r.text_token for r in found] == [token for token, _ in expected]
        for reply, (_, gate) in zip(found, expected, strict=True):
            assert (reply.gate is None) == (gate is None)
            assert gate is None or reply.gate == pytest.approx(gate, abs=1e-5)


def test_an_image_may_be_taken_away_and_ends_with_its_conversation(moshi):
    batch = moshi.batch(1)
    session = batch.open(Sampling(**GREEDY))
    session.show(moshi.encode_image(picture()), start=0)
    assert session.step(sound()[0]).gate is not None
    session.show(None)
    assert session.step(sound()[0]).gate is None
    session.show(moshi.encode_image(picture()), start=0)
    session.close()
    assert batch.open(Sampling(**GREEDY)).step(sound()[0]).gate is None


def test_another_size_has_other_patches_and_a_batch_has_one_size(moshi):
    small = moshi.encode_image(picture(), size=14)
    assert small.shape == (1, 4, 64)
    with pytest.raises(ConfigError, match=r"image of 57 pixels .* give 7 to 56"):
        moshi.encode_image(picture(), size=57)
    batch = moshi.batch(2)
    one, other = batch.open(), batch.open()
    one.show(small)
    with pytest.raises(ConfigError, match=r"16 patches .* whose images have 4"):
        other.show(moshi.encode_image(picture()))
    one.show(moshi.encode_image(picture()))  # alone it may change


def test_a_snapshot_goes_on_where_the_image_is_shown_again(moshi):
    source = moshi.encode_image(picture())
    first = moshi.session(**GREEDY)
    first.show(source, start=0)
    for frame in sound()[:5]:
        first.step(frame)
    kept = first.snapshot()
    expected = [first.step(frame).text_token for frame in sound()[5:12]]
    again = moshi.session(**GREEDY)
    again.restore(kept)
    again.show(source, start=0)
    assert [again.step(frame).text_token for frame in sound()[5:12]] == expected


def test_a_file_is_answered_with_an_image(moshi):
    heard = np.concatenate(sound())
    one, other = (
        moshi.respond(heard, tail_s=0, image=picture(k), **GREEDY) for k in range(2)
    )
    assert one.frames == other.frames and not np.array_equal(one.pcm, other.pcm)


def test_a_condition_is_made_again_only_when_somebody_sees_something_else():
    sights = Sights(2)
    assert sights.now([99, 99]) is None
    sights.show(1, Sight(mx.ones((1, 3, 4)), start=5))
    assert sights.now([99, 4]) is None and not sights.sees(1)
    source = sights.now([0, 5])
    assert source is not None and source.sum(axis=(1, 2)).tolist() == [0, 12]
    assert sights.sees(1) and not sights.sees(0)
    assert sights.now([1, 6]) is source


def test_who_sees_none_is_told(moshi):
    demo = moshi_mlx.load("demo")
    for refused in (
        lambda: demo.session(image=picture()),
        lambda: demo.encode_image(picture()),
    ):
        with pytest.raises(ConfigError, match="demo is a moshi model and sees no imag"):
            refused()
    with pytest.raises(ConfigError, match="demo sees no images"):
        demo.session().show(moshi.encode_image(picture()))
    with pytest.raises(ImageError, match="is no image"):
        moshi.session(image=b"no image")


def test_its_image_encoder_goes_with_it(tmp_path):
    moshi = moshi_mlx.load(vis_folder(tmp_path / "vis"))
    moshi.warmup()
    moshi.close()
    with pytest.raises(ConfigError, match="closed"):
        moshi.encode_image(picture())
    assert "image_encoder" not in vars(moshi)
