"""Zapping part of an area, and what every step of it leaves in the TLBs."""

from pagewatch.model.gather import Zap
from pagewatch.model.memory import Folio
from pagewatch.model.pages import folio_at
from pagewatch.model.vma import Vma
from pagewatch.model.walk import Spot, seek
from pagewatch.model.zap import zap_range
from pagewatch.steps import LOCK, Kind
from support.modelled import PAGE, Area


def area_of(area: Area) -> Vma:
    vma = area.process.mm.vmas.at(area.start)
    assert vma is not None
    return vma


def zap(area: Area, how: Zap, first: int = 0, last: int | None = None) -> None:
    with area.process.mm.mmap_lock.shared:
        zap_range(area.process.mm, area_of(area), area.at(first), area.end if last is None else area.at(last), how)


def entry_of(area: Area, page: int = 0) -> Spot:
    return seek(area.process.mm, area.at(page))


def folio_of(area: Area, page: int = 0) -> Folio:
    spot = entry_of(area, page)
    folio = folio_at(area.kernel.machine, spot.fmt, spot.entry)
    assert folio is not None
    return folio


class Watch:
    """Every step: its label, its kind, and the CPUs that still translate the first page of an area."""

    def __init__(self, area: Area) -> None:
        self.area = area
        self.steps: list[tuple[str, Kind, list[int]]] = []

    def before(self, *step: object) -> None:
        *_, kind, label = step
        here = self.area.process.mm.id, self.area.start // PAGE
        cpus = [cpu.number for cpu in self.area.kernel.machine.cpus if here in cpu.tlb]
        self.steps.append((str(label), Kind(kind), cpus))

    def translating(self, wanted: str) -> list[list[int]]:
        """CPUs that do at the steps of that label, other than taking a lock."""
        return [cpus for label, kind, cpus in self.steps if label == wanted and kind is not LOCK]
