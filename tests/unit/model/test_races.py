"""Every way a tracker's collect can fall between two writers' stores, on the modelled kernel.

The programs are small (one page, two CPUs), the traces complete: what is asserted holds for every one.
"""

from collections.abc import Callable

from pagewatch.explore.engine import Execution
from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Kernel
from pagewatch.model.scan.call import WP_MATCHING
from pagewatch.vocab.categories import Category
from support.model_world import ModelWorld
from support.modelled import PAGE, WRITTEN, Area


class Race:
    """One tracked page, two writers, and what a tracker saw of it."""

    def __init__(self) -> None:
        self.area = Area(1)
        self.area.store(0)
        self.uffd = self.area.armed()
        self.seen: list[bool] = []
        self.snapshots: list[bytes] = []

    def writer(self, cpu: int) -> Callable[[], None]:
        return lambda: self.area.process.store(self.area.start + 8 * cpu, bytes([cpu + 1]) * 8, cpu=cpu)

    def collect_atomically(self) -> None:
        self.seen.append(bool(self.area.raw(WRITTEN, flags=WP_MATCHING).regions))

    def collect_in_two_calls(self) -> None:
        """The naive form: look, then protect."""
        self.seen.append(bool(self.area.raw(WRITTEN).regions))
        self.uffd.writeprotect(self.area.start, PAGE)

    def copy_what_was_seen(self) -> None:
        """What a checkpoint does: keep the bytes of a page that was reported."""
        if self.seen[-1]:
            self.snapshots.append(self.area.process.load(self.area.start, 16, cpu=0))

    def lost(self) -> bool:
        """Whether the page was written, was reported by no collect, and will be by none."""
        content = self.area.process.load(self.area.start, 16)
        unreported = not any(self.seen) and not (self.area.categories(0) & Category.WRITTEN)
        return unreported and content != b"x" + bytes(15)


def explored(tracker: Callable[[Race], None], writers: int) -> tuple[list[Execution], list[Race]]:
    races: list[Race] = []

    def build() -> list[Callable[[], None]]:
        race = Race()
        races.append(race)
        return [lambda: tracker(race), *[race.writer(cpu) for cpu in range(writers)]]

    runs, kept = [], []
    for run in enumerate_traces(build):
        runs.append(run)
        kept.append(races[-1])
    return runs, kept


def test_an_atomic_collect_never_loses_a_write() -> None:
    runs, races = explored(Race.collect_atomically, writers=1)
    assert not any(run.deadlocked or run.errors for run in runs)
    assert {race.seen[0] for race in races} == {True, False}
    assert not any(race.lost() for race in races)


def test_looking_and_protecting_in_two_calls_loses_writes_in_some_interleavings() -> None:
    runs, races = explored(Race.collect_in_two_calls, writers=1)
    assert not any(run.deadlocked or run.errors for run in runs)
    lost = [race.lost() for race in races]
    assert any(lost)
    assert not all(lost)


def test_the_tracker_itself_never_loses_a_write_between_two_collects() -> None:
    states = []

    def build() -> list[Callable[[], None]]:
        world = ModelWorld(Kernel(cpus=2))
        start = world.map(1)
        world.store(start, b"old")
        tracker = world.track([(start, start + PAGE)])
        tracker.arm()
        reported: list[int] = []
        states.append((tracker, reported))
        return [
            lambda: reported.append(tracker.collect().regions.pages),
            lambda: world.process.store(start + 8, b"new", cpu=1),
        ]

    n_reported = set()
    for run in enumerate_traces(build):
        assert not run.deadlocked
        assert not run.errors
        tracker, reported = states[-1]
        n_reported.add((*reported, tracker.collect().regions.pages))
    # Both: the fault had lifted the protection, the collect saw that and put it back, the store faulted again.
    assert n_reported == {(0, 1), (1, 0), (1, 1)}
