"""Happened-before and races, on histories small enough to see."""

from pagewatch.explore.dependence import Access
from pagewatch.explore.history import History, Race
from pagewatch.steps import LOCK, READ, UNLOCK, WRITE, Whole

WRITE_X, READ_X, WRITE_Y, READ_Y = Access("x", WRITE), Access("x", READ), Access("y", WRITE), Access("y", READ)
TAKE, DROP = Access("m", LOCK, waits=True), Access("m", UNLOCK)


def history(*steps: tuple[int, Access], n_threads: int = 3) -> History:
    made = History(n_threads)
    for thread, access in steps:
        made.append(thread, access)
    return made


def races(made: History, thread: int, access: Access) -> list[Race]:
    return list(made.races(thread, access))


def test_two_writes_race_and_the_later_can_begin_the_other_order() -> None:
    assert races(history((0, WRITE_X)), 1, WRITE_X) == [Race(0, frozenset({1}))]


def test_two_reads_do_not_race() -> None:
    assert races(history((0, READ_X)), 1, READ_X) == []


def test_steps_of_one_thread_do_not_race() -> None:
    assert races(history((0, WRITE_X)), 0, WRITE_X) == []


def test_what_another_access_has_ordered_does_not_race() -> None:
    made = history((0, WRITE_X), (0, WRITE_Y), (1, READ_Y))
    assert races(made, 1, WRITE_X) == []


def test_only_the_latest_of_a_chain_of_writes_races() -> None:
    made = history((0, WRITE_X), (1, WRITE_X))
    assert [race.at for race in races(made, 2, WRITE_X)] == [1]


def test_the_other_order_begins_with_what_did_not_depend_on_the_earlier_step() -> None:
    made = history((0, WRITE_X), (1, WRITE_Y), (2, READ_Y))
    assert races(made, 2, READ_X) == [Race(0, frozenset({1}))]  # 2 read y, so 1 must come first
    made = history((0, WRITE_X), (1, READ_Y), (2, READ_Y))
    assert races(made, 2, READ_X) == [Race(0, frozenset({1, 2}))]


def test_who_waits_for_a_lock_races_with_its_acquisition_not_with_its_release() -> None:
    made = history((0, TAKE), (0, DROP))
    assert races(made, 1, TAKE) == [Race(0, frozenset({1}))]
    assert [race.at for race in races(made, 1, Access("m", LOCK))] == [1]


def test_a_free_of_all_races_with_each_use_of_a_part_and_the_other_way_round() -> None:
    free, use, look = Access(Whole(("t",)), WRITE), Access(("t", 1), WRITE), Access(("t", 2), READ)
    assert {race.at for race in races(history((0, use), (1, look)), 2, free)} == {0, 1}
    made = history((0, free))
    assert [race.at for race in races(made, 1, look)] == [0]
    assert races(made, 1, Access(("u", 2), READ)) == []
    made.pop()
    assert races(made, 1, look) == []


def test_what_a_free_of_all_has_ordered_does_not_race() -> None:
    made = history((0, Access("x", WRITE)), (0, Access(Whole(("t",)), WRITE)), (1, Access(("t", 1), READ)))
    assert races(made, 1, Access("x", WRITE)) == []


def test_what_was_taken_back_never_happened() -> None:
    made = history((0, WRITE_X), (1, WRITE_X))
    made.pop()
    assert len(made) == 1
    assert [race.at for race in races(made, 2, WRITE_X)] == [0]
