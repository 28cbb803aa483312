"""Mappings of living processes, against what the test itself mapped."""

import ctypes
import itertools
import mmap
import os
import subprocess
from pathlib import Path

import pytest

from pagewatch.linux.maps import MapsReader, read_maps
from pagewatch.vocab.buffers import buffer_span
from pagewatch.vocab.errors import TargetGone, TrackerClosed
from support import libc, raw
from support.area import MAP_HUGETLB, area
from support.forked import forked_child
from support.hugepages import hugetlb_pages
from support.needs import requires

P = raw.PAGE

HOSTILE_NAMES = [
    b"new\nline",
    b"7f0000000000-7f0000001000 rw-p 00000000 00:00 0 ",
    b"VmFlags: rd wr uw",
    b"KernelPageSize:     2048 kB",
    b"gone (deleted)",
    b"[heap]",
    b" spaces  at both ends ",
    b"not utf-8 \xff\xfe",
    b"a\rcarriage return\x85\x1c",
    "Zeichenkette ⚠".encode(),
    b"x" * 255,
]


@pytest.fixture
def reader():
    with MapsReader() as reader:
        yield reader


def at(mappings, address):
    (found,) = [m for m in mappings if m.start <= address < m.end]
    return found


def test_mappings_are_ascending_and_disjoint(reader):
    mappings = reader.mappings()
    assert len(mappings) > 10
    assert all(one.end <= other.start for one, other in itertools.pairwise(mappings))


def test_anonymous_memory_is_found_where_it_was_mapped(reader):
    with area(5) as memory:
        found = at(reader.mappings(), memory.start)
        assert (found.start, found.end, found.permissions) == (memory.start, memory.end, "rw-p")
        assert (found.name, found.inode, found.anonymous, found.page_size) == ("", 0, True, P)


def test_a_file_is_named_with_its_offset_device_and_inode(reader, tmp_path):
    path = tmp_path / "a file"
    path.write_bytes(bytes(3 * P))
    with path.open("rb") as file, mmap.mmap(file.fileno(), P, offset=P, prot=mmap.PROT_READ) as mapped:
        found = at(reader.mappings(), buffer_span(mapped)[0])
        about = path.stat()
        assert (found.name, found.offset, found.inode, found.shared) == (str(path), P, about.st_ino, True)
        assert found.device == f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}"


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=repr)
def test_hostile_file_names_make_no_mapping_and_hide_none(name, tmp_path):
    path = os.fsencode(tmp_path) + b"/" + name
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        os.ftruncate(fd, 2 * P)
        with mmap.mmap(fd, 2 * P) as mapped, MapsReader() as reader:
            start, _ = buffer_span(mapped)
            for mappings in (reader.mappings(), read_maps()):
                found = at(mappings, start)
                assert (found.start, found.end) == (start, start + 2 * P)
                assert found.inode == os.fstat(fd).st_ino
                assert found.page_size == P
                # The kernel escapes a newline; what is no UTF-8 is escaped by us.
                assert found.name.encode().startswith(os.fsencode(tmp_path) + b"/")
                assert "\n" not in found.name
            assert at(read_maps(), start).flags == raw.vm_flags(start)
    finally:
        os.close(fd)


def test_names_without_escapes_are_exact(tmp_path):
    for name in HOSTILE_NAMES:
        path = os.fsencode(tmp_path) + b"/" + name
        if b"\n" in name or b"\xff" in name or b"\x85" in name:
            continue
        fd = os.open(path, os.O_CREAT | os.O_RDWR)
        os.ftruncate(fd, P)
        with mmap.mmap(fd, P) as mapped, MapsReader() as reader:
            assert os.fsencode(at(reader.mappings(), buffer_span(mapped)[0]).name) == path
        os.close(fd)


def test_an_unlinked_file_keeps_its_inode(reader, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(P))
    with path.open("rb") as file, mmap.mmap(file.fileno(), P, prot=mmap.PROT_READ) as mapped:
        path.unlink()
        found = at(reader.mappings(), buffer_span(mapped)[0])
        assert (found.name, found.inode) == (f"{path} (deleted)", os.fstat(file.fileno()).st_ino)


def test_the_same_tuple_as_long_as_nothing_changed():
    with forked_child(lambda: None) as (child, _), MapsReader(child) as reader:
        before = reader.mappings()
        assert reader.mappings() is before


def test_a_change_is_seen(reader):
    with area(4) as memory:
        before = reader.mappings()
        libc.mprotect(memory.at(1), P, libc.PROT_READ)
        after = reader.mappings()
        assert after is not before
        assert [at(after, memory.at(page)).permissions for page in range(4)] == ["rw-p", "r--p", "rw-p", "rw-p"]


def test_hugetlb_mappings_have_their_own_page_size(reader):
    with hugetlb_pages(1, size=2 << 20), area(512, flags=MAP_HUGETLB | 21 << 26, align=2 << 20) as memory:
        assert at(reader.mappings(), memory.start).page_size == 2 << 20
        assert at(read_maps(), memory.start).page_size == 2 << 20


@requires("uffd_wp_async")
def test_flags_show_the_registration():
    with area(4) as memory, raw.registered((memory.at(0), memory.at(2))):
        mappings = read_maps()
        assert "uw" in at(mappings, memory.at(0)).flags
        assert "uw" not in at(mappings, memory.at(3)).flags


def test_flags_are_none_where_they_were_not_asked_for(reader):
    assert all(mapping.flags is None for mapping in reader.mappings())


def test_another_process_has_its_own_mappings():
    with (
        area(4) as memory,
        forked_child(lambda: libc.munmap(memory.at(1), P)) as (child, _),
        MapsReader(child) as reader,
    ):
        lines = Path(f"/proc/{child}/maps").read_text().splitlines()
        assert [m.start for m in reader.mappings()] == [int(line.split("-")[0], 16) for line in lines]
        assert not [m for m in reader.mappings() if m.start <= memory.at(1) < m.end]


# --- processes that are gone


def test_a_dead_process_is_gone():
    with forked_child(lambda: None) as (child, _):
        reader = MapsReader(child)
        assert reader.mappings()
    with reader, pytest.raises(TargetGone) as caught:
        reader.mappings()
    assert caught.value.pid == child


def test_a_dead_process_is_not_alive():
    with forked_child(lambda: None) as (child, _):
        reader = MapsReader(child)
        reader.check_alive()
    with reader, pytest.raises(TargetGone):
        reader.check_alive()


def test_a_process_that_executes_another_program_is_gone(other_program):
    child, go_on = other_program
    with MapsReader(child) as reader:
        assert reader.mappings()
        go_on()
        with pytest.raises(TargetGone, match="exec"):
            reader.mappings()
        with pytest.raises(TargetGone):
            reader.check_alive()
    # The pid itself lives on, as another program.
    assert read_maps(child)


def test_a_zombie_has_no_mappings():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        with pytest.raises(TargetGone):
            read_maps(child.pid)
        with pytest.raises(TargetGone), MapsReader(child.pid) as reader:
            reader.mappings()
    finally:
        child.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="others may not even look at kernel threads")
def test_a_kernel_thread_has_no_mappings():
    with pytest.raises(TargetGone, match="kernel thread"):
        read_maps(2)


def test_a_closed_reader_says_so():
    reader = MapsReader()
    reader.close()
    reader.close()
    with pytest.raises(TrackerClosed):
        reader.mappings()


def test_a_page_of_the_heap_is_in_a_mapping(reader):
    value = ctypes.create_string_buffer(64)
    assert at(reader.mappings(), ctypes.addressof(value)).writable
