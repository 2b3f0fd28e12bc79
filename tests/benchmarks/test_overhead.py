"""The benchmark of the cost of safety times functions that exist, and no second twice."""

import time

import overhead
import pytest


@pytest.mark.parametrize(("owner", "name"), [guard for guards in overhead.GUARDS.values() for guard in guards])
def test_every_guard_exists(owner, name):
    assert callable(getattr(owner, name))


def test_the_time_of_a_guard_excludes_the_guards_that_it_calls():
    watch = overhead.Watch()
    inner = watch.around("inner", lambda: time.sleep(0.2))

    def work():
        time.sleep(0.05)
        inner()

    watch.around("outer", work)()
    assert 0.2 <= watch.seconds["inner"] < 0.3
    assert 0.05 <= watch.seconds["outer"] < 0.15
