"""The front: every architecture works end to end, and wrong set-ups are refused."""

import pytest

from pagewatch.model import Kernel
from pagewatch.model.arch import ARCHES
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.uffd.context import Feature
from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import InvalidArgument
from pagewatch.vocab.query import Query

WRITTEN = Query(mask=Category.WRITTEN, returned=Category.WRITTEN)


@pytest.mark.parametrize("arch", sorted(ARCHES))
def test_memory_behaves_on_every_architecture(arch: str) -> None:
    kernel = Kernel(arch, cpus=2)
    page = kernel.machine.page_bytes
    process = kernel.spawn()
    start = process.mmap(8 * page)
    process.store(start, b"a")
    process.store(start + page - 1, b"bc")
    child = process.fork()
    child.store(start, b"child")
    process.store(start + 1, b"P", cpu=1)
    assert (process.load(start, 2), child.load(start, 5)) == (b"aP", b"child")
    process.madvise(start, page, Advice.PAGEOUT)
    assert process.load(start, 2) == b"aP"
    for prot in (1, 0, 3):
        process.mprotect(start, page, prot)
    process.store(start, b"z")
    check(kernel.machine)
    child.exit()
    process.exit()
    check(kernel.machine)
    assert len(kernel.machine.tables) == 0


@pytest.mark.parametrize("arch", [name for name, fmt in sorted(ARCHES.items()) if "uffd-wp" in fmt.features])
def test_tracking_is_exact_on_every_architecture_that_has_the_bit(arch: str) -> None:
    kernel = Kernel(arch)
    page = kernel.machine.page_bytes
    process = kernel.spawn()
    start = process.mmap(8 * page)
    process.store(start, b"a")
    uffd = process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(start, 8 * page)
    uffd.writeprotect(start, 8 * page)
    process.store(start + 3 * page, b"w")
    process.store(start, b"w")
    found = process.scan(start, start + 8 * page, WRITTEN, protect=True).regions
    assert found.page_addresses().tolist() == [start, start + 3 * page]
    assert process.scan(start, start + 8 * page, WRITTEN).regions.pages == 0
    check(kernel.machine)


def test_an_architecture_without_the_bit_refuses_write_protection() -> None:
    process = Kernel("ppc-8xx").spawn()
    start = process.mmap(1 << 16)
    with pytest.raises(OSError, match="UFFDIO_REGISTER: Invalid argument"):
        process.userfaultfd(Feature.WP_ASYNC).register(start, 1 << 16)


def test_an_unknown_architecture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match=r"unknown arch 'vax'; known: x86_64, "):
        Kernel("vax")


def test_no_cpu_is_no_machine() -> None:
    with pytest.raises(InvalidArgument):
        Kernel(cpus=0)


def test_a_file_has_what_was_written_through_any_door() -> None:
    kernel = Kernel()
    file = kernel.memfd(8192)
    one, two = kernel.spawn(), kernel.spawn()
    a, b = (process.mmap(8192, shared=True, file=file) for process in (one, two))
    one.store(a, b"one")
    file.write(4096, b"write")
    assert two.load(b, 3) == b"one"
    assert two.load(b + 4096, 5) == b"write"
    assert file.read(0, 3) == b"one"
