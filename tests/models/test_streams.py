"""The ring of token columns against lists that never forget."""

from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.streams import TokenStreams
from tests.stream_oracle import StreamsOracle
from tests.tiny import BASE

B = 3


def config(delays: list[int], dep_q: int) -> LmConfig:
    streams: dict[str, Any] = {"delays": delays, "n_q": len(delays) - 1, "dep_q": dep_q}
    return LmConfig.from_config_dict({**BASE, **streams})


class Rows:
    """A batch of streams, beside one oracle per row."""

    def __init__(self, delays: list[int], dep_q: int):
        self.cfg = config(delays, dep_q)
        self.ring = TokenStreams(self.cfg, B)
        self.oracles = [self._oracle(delays, dep_q) for _ in range(B)]
        self.count = 0

    def _oracle(self, delays: list[int], dep_q: int) -> StreamsOracle:
        audio = [self.cfg.audio_padding_token] * (len(delays) - 1)
        return StreamsOracle(delays, [self.cfg.text_initial_token, *audio], 1 + dep_q)

    def fresh(self, columns: int) -> list[list[int]]:
        """Tokens never used before, so that no two can be mistaken."""
        self.count += B * columns
        values = iter(range(self.count - B * columns, self.count))
        return [[next(values) for _ in range(columns)] for _ in range(B)]

    def step(self, active: list[bool] | None) -> None:
        taking_part = active or [True] * B
        heard, said = self.fresh(self.ring.other), self.fresh(self.ring.own)
        self.ring.hear(
            mx.array(heard, mx.int32).reshape(B, self.ring.other), active, False
        )
        text, audio = self.ring.input(active)
        for row in range(B):
            if taking_part[row]:
                self.oracles[row].hear(heard[row])
                column = [text[row, 0].item()]
                column += [] if audio is None else audio[row, :, 0].tolist()  # type: ignore
                assert column == self.oracles[row].input()
        tokens = mx.array(said, mx.int32)
        self.ring.say(tokens[:, :1], tokens[:, 1:], active)
        found = self.ring.output()
        completed = [
            self.oracles[row].say(said[row]) if taking_part[row] else None
            for row in range(B)
        ]
        if found is None:
            assert completed == [None] * B
            return
        for row, frame in enumerate(completed):
            assert found[row].tolist() == (frame or [-2] * self.ring.own)

    def reset(self, rows: list[int]) -> None:
        self.ring.reset(rows)
        for row in rows:
            oracle = self.oracles[row]
            oracle.heard, oracle.said = [], []


STREAMS = st.integers(1, 5).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 4), min_size=n + 1, max_size=n + 1), st.integers(0, n)
    )
)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.none()),
        st.tuples(st.just("step"), st.lists(st.booleans(), min_size=B, max_size=B)),
        st.tuples(st.just("reset"), st.lists(st.integers(0, B - 1), max_size=B)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(streams=STREAMS, actions=ACTIONS)
def test_every_row_reads_and_completes_what_its_lists_say(streams, actions):
    rows = Rows(*streams)
    for kind, value in actions:
        if kind == "step":
            rows.step(value)
        else:
            rows.reset(value)


def test_a_text_model_has_one_stream():
    rows = Rows([0], 0)
    for _ in range(5):
        rows.step(None)


def test_the_ring_is_max_delay_and_two_columns_for_ever():
    rows = Rows([0, 0, 3, 1], 2)
    for _ in range(20):
        rows.step(None)
        assert rows.ring.tokens.shape == (B, 4, 5)


@pytest.mark.parametrize("shape", [(B, 1), (B + 1, 2), (2,), (B, 2, 1)])
def test_frames_of_a_wrong_shape_are_named(shape: tuple[int, ...]):
    ring = TokenStreams(config([0, 0, 1, 1], 1), B)
    with pytest.raises(ValueError, match=r"got tokens of shape .*: give \[3, 2\]"):
        ring.hear(mx.zeros(shape, mx.int32), None, False)


def test_further_codebooks_of_the_other_side_are_dropped():
    first, second = (TokenStreams(config([0, 0, 1, 1], 1), B) for _ in range(2))
    frame = mx.arange(B * 4).reshape(B, 4)
    first.hear(frame, None, False)
    second.hear(frame[:, :2], None, False)
    assert mx.array_equal(first.tokens, second.tokens)


@pytest.mark.parametrize("wrong", [-2, BASE["card"] + 1])
def test_checked_frames_must_be_in_the_vocabulary(wrong: int):
    ring = TokenStreams(config([0, 0, 1, 1], 1), B)
    frame = mx.zeros((B, 2), mx.int32)
    ring.hear(frame - 1, None, True)
    ring.hear(frame + BASE["card"], None, True)
    frame[1, 1] = wrong
    with pytest.raises(ValueError, match=rf"{wrong}.*codes are -1 \(none\) to 24"):
        ring.hear(frame, None, True)


def test_a_frame_may_have_a_time_axis_before_its_codebooks():
    cfg = config([0, 0, 1, 1, 0, 2, 1], 3)
    plain, timed = TokenStreams(cfg, 2), TokenStreams(cfg, 2)
    codes = mx.arange(2 * plain.other).reshape(2, plain.other) % 8
    plain.hear(codes, None, True)
    timed.hear(codes[:, None], None, True)
    assert mx.array_equal(plain.tokens, timed.tokens)
    assert not mx.array_equal(plain.tokens, TokenStreams(cfg, 2).tokens)
    with pytest.raises(ValueError, match=r"shape \(2, 2, "):
        plain.hear(mx.stack([codes, codes], axis=1), None, True)
