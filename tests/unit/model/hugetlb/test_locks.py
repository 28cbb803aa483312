import pytest

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Quirks
from pagewatch.model.hugetlb.locks import fault_mutex, reading, writing
from pagewatch.model.invariants import check
from pagewatch.steps import WouldBlock
from support.hugetlb_world import HugeArea


def test_a_page_of_a_file_has_one_mutex_and_others_have_others() -> None:
    file = HugeArea().kernel.memfd(4 << 20, huge="2M")
    assert fault_mutex(file, 0) is fault_mutex(file, 0)
    assert fault_mutex(file, 0) is not fault_mutex(file, 512)


def test_the_vma_lock_keeps_unsharing_out_unless_the_kernel_is_older_than_it() -> None:
    for locks in (True, False):
        area = HugeArea(quirks=Quirks(hugetlb_vma_lock=locks))
        machine, [vma] = area.kernel.machine, area.process.areas
        with reading(machine, vma):
            if locks:
                with pytest.raises(WouldBlock), writing(machine, vma):
                    pass
            else:
                with writing(machine, vma):
                    pass


def test_two_threads_that_need_the_same_page_of_a_file_make_one() -> None:
    """Every trace: the mutex lets one make the page, and both stores are in it."""
    runs = []

    def build():
        area = HugeArea(n_pages=1, shared=True)
        runs.append(area)
        return [
            lambda cpu=cpu: area.process.store(area.start + 8 * cpu, bytes([cpu + 1]) * 8, cpu=cpu) for cpu in (0, 1)
        ]

    for execution in enumerate_traces(build):
        assert not execution.errors
        assert not execution.deadlocked
        area = runs[-1]
        assert area.process.load(area.start, 16) == b"\1" * 8 + b"\2" * 8
        assert sum(folio.hugetlb for folio in area.kernel.machine.memory.folios.values()) == 1
        check(area.kernel.machine)
    assert len(runs) > 10
