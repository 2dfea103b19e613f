"""Kinds of values in a config: their ranges with both ends, and messages."""

import dataclasses

import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.schema import (
    Kind,
    Room,
    above,
    bounded,
    check,
    either,
    flag,
    listed,
    number,
    or_null,
    shortened,
    text,
    whole,
)


@pytest.mark.parametrize(
    "kind, good, bad",
    [
        (whole(2, 5), (2, 5), (1, 6, 2.0, True, "2", None)),
        (number(0.5, 2), (0.5, 1, 2.0), (0.4, 2.1, True, "1", float("nan"))),
        (above(0, 2), (0.1, 2), (0, 2.1, True, float("nan"))),
        (flag(), (True, False), (0, 1, None)),
        (text("a word"), ("a", "x" * 1000), ("", "x" * 1001, 1)),
        (text("a letter", "[ab]"), ("a",), ("ab", "c")),
        (listed(whole(0, 3), "numbers"), ([], (0, 3), [1] * 10_000), ([4], "12", 1)),
        (listed(flag(), "flags", 2, 3), ([True] * 2, [True] * 3), ([True], [True] * 4)),
        (listed(flag(), "flags"), ([],), ([True] * 10_001,)),
        (either(flag(), whole(2, 3)), (True, 2), (1, 4)),
        (or_null(whole(2, 3)), (None, 2), (1,)),
    ],
)
def test_a_kind_takes_its_range_and_nothing_else(kind: Kind, good, bad):
    for value in good:
        check({"key": value}, {"key": kind}, null_is_absent=False)
    for value in bad:
        with pytest.raises(ConfigError, match=r"config has key .*: give "):
            check({"key": value}, {"key": kind}, null_is_absent=False)


def test_null_is_absent_unless_it_counts():
    check({"key": None}, {"key": whole(1, 2)})
    with pytest.raises(ConfigError, match="config has key None"):
        check({"key": None}, {"key": whole(1, 2)}, null_is_absent=False)


def test_objects_inside_are_named():
    schema = {"outer": {"inner": whole(1, 2)}}
    check({"outer": {"inner": 1, "other": "anything"}}, schema)
    with pytest.raises(ConfigError, match="config has outer inner 3: give a whole"):
        check({"outer": {"inner": 3}}, schema)
    with pytest.raises(ConfigError, match="config has outer 3: give an object"):
        check({"outer": 3}, schema)
    with pytest.raises(ConfigError, match="config has the whole 3: give an object"):
        check(3, schema)


@pytest.mark.parametrize("bound", ["axis", "tensors"])
@pytest.mark.parametrize("many", [False, True])
def test_no_value_exceeds_what_the_tensors_leave_room_for(bound, many):
    room = dataclasses.replace(Room(axis=99, tensors=99), **{bound: 7})
    kind = bounded(whole(0, 50), bound)
    schema = {"key": listed(kind, "sizes") if many else kind}
    for value in (0, 7):
        check({"key": [1, value] if many else value}, schema, room)
    check({"key": [] if many else 0}, schema, dataclasses.replace(room, **{bound: 0}))
    with pytest.raises(ConfigError, match="belong to another configuration"):
        check({"key": [1, 8] if many else 8}, schema, room)
    check({"key": [1, 8] if many else 8}, schema)


def test_long_values_are_cut_in_messages():
    assert shortened("x" * 58) == repr("x" * 58)
    assert shortened("x" * 59) == repr("x" * 59)[:60] + "..."


def test_kinds_and_rooms_do_not_change():
    for made, name in ((whole(1, 2), "bound"), (Room(1, 2), "axis")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, name, None)
