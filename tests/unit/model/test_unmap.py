"""Unmapping a page-cache folio wherever it is mapped."""

from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.unmap import unmap_file_folio
from pagewatch.vocab.categories import Category
from support.letters import A, S
from support.modelled import Area

N = 512


def test_it_leaves_every_mapping_and_protection_stays_behind() -> None:
    area = Area(N, shared=True)
    area.store(0, 1)
    file = area.process.areas[0].file
    armed = Area(N, process=area.process, shared=True, file=file)
    private = Area(N, process=area.process, file=file)
    armed.load(0)
    armed.armed()
    private.store(0)
    private.load(1)
    for page in (0, 1):
        unmap_file_folio(file, file.folios[page])
        assert file.folios[page].raw_mapcount == 0
    assert area.pages() == list(range(N))
    assert armed.rows() == [(0, N, S | A)]
    assert private.load(0) == b"x"
    assert area.load(0) == b"x"
    check(area.kernel.machine)


def test_huge_leaves_go_whole() -> None:
    area = Area(N, shared=True)
    area.store(0)
    area.advise(Advice.COLLAPSE, 0, N)
    file = area.process.areas[0].file
    unmap_file_folio(file, file.folios[0])
    assert area.rows() == [(0, N, Category(0))]
    assert file.folios[0].raw_mapcount == 0
    check(area.kernel.machine)
