"""The benchmark of the cost of safety times functions that exist, and counts no time twice."""

import pytest

import overhead


@pytest.mark.parametrize(("owner", "name"), [guard for guards in overhead.GUARDS.values() for guard in guards])
def test_every_guard_exists(owner, name):
    assert callable(getattr(owner, name))


def test_the_time_of_a_guard_excludes_the_guards_that_it_calls(monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr(overhead.time, "perf_counter", lambda: clock["now"])
    watch = overhead.Watch()

    def take(seconds):
        clock["now"] += seconds

    inner = watch.around("inner", lambda: take(2.0))

    def work():
        take(0.5)
        inner()
        take(0.25)

    watch.around("outer", work)()
    assert dict(watch.seconds) == {"inner": 2.0, "outer": 0.75}
