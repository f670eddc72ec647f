"""What a relay leaves out: longer each time, said once, and forgotten when it went through."""

from __future__ import annotations

from redrive.outbox.aside import Aside


def test_what_is_refused_is_left_out_for_longer_each_time() -> None:
    """One second, twice as long each time, half a minute at most; only the first time is to be said."""
    aside, now, lengths = Aside(), 0.0, []
    for number in range(8):
        said = aside.put("a", now)
        assert (said == 1.0) if number == 0 else said is None
        began = now
        while "a" in aside.names(now):
            now += 0.5
        lengths.append(now - began)
    assert lengths == [1, 2, 4, 8, 16, 30, 30, 30]


def test_what_went_through_is_forgotten() -> None:
    """It begins anew, and whoever was left out is named, once."""
    aside = Aside()
    aside.put("a", 0.0)
    aside.put("b", 0.0)
    assert len(aside) == 2
    assert aside.release({"a", "c"}) == ["a"]
    assert aside.release({"a"}) == []
    assert aside.names(0.5) == ["b"]
    assert aside.put("a", 100.0) == 1.0
    assert aside.names(100.0) == ["a"]
