"""As many live clients as fit into a frame, of all models together."""

from dataclasses import dataclass

import pytest

from moshi_mlx.serve.places import BUDGET_S, FrameTime, fitting

LIVE = ("conversations", "transcription", "speech")


@dataclass
class Batch:
    """Takes the same time for each row."""

    rows: int
    row_s: float
    closed: bool = False

    def warmup(self) -> float:
        return self.rows * self.row_s

    def close(self) -> None:
        self.closed = True


def places(time: FrameTime, name: str, row_s: float, most: int = 8) -> int:
    made: list[Batch] = []

    def make(rows: int) -> Batch:
        made.append(Batch(rows, row_s))
        return made[-1]

    kept = fitting(make, most, name, time)
    assert [batch.closed for batch in made] == [True] * (len(made) - 1) + [False]
    return kept.rows


def test_one_model_takes_what_fits_into_a_frame_and_no_more_than_it_is_allowed():
    assert places(FrameTime(["speech"]), "speech", BUDGET_S / 5) == 5
    assert places(FrameTime(["speech"]), "speech", BUDGET_S / 5, most=3) == 3


@pytest.mark.parametrize("order", [LIVE, LIVE[::-1]])
def test_models_that_are_loaded_in_any_order_fit_into_a_frame_together(order):
    time = FrameTime(LIVE)
    taken = [places(time, name, BUDGET_S / 12) for name in order]
    assert taken == [4, 4, 4]
    assert time.taken_s == pytest.approx(BUDGET_S)


def test_what_one_model_leaves_is_shared_by_those_that_come_later():
    time = FrameTime(LIVE)
    assert places(time, "conversations", BUDGET_S / 12, most=1) == 1
    assert places(time, "transcription", BUDGET_S / 12) == 5
    assert places(time, "speech", BUDGET_S / 12) == 6
    assert time.taken_s <= BUDGET_S * 1.0001


def test_a_model_has_one_place_even_where_it_is_too_slow_and_that_is_told(caplog):
    time = FrameTime(LIVE[:2])
    assert places(time, "conversations", 2 * BUDGET_S) == 1
    assert places(time, "transcription", BUDGET_S / 12) == 1
    assert "a step of all models takes" in caplog.text
