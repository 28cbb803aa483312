"""Text of /proc/PID/maps and smaps, as the kernel writes it and as hostile names would have it."""

import pytest

from pagewatch.linux.maps import parse_smaps
from pagewatch.vocab.addresses import PAGE_SIZE

SMAPS = b"""\
5581ae600000-5581ae602000 r--p 00001000 fe:01 131086                     /usr/bin/cat
Size:                  8 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                   8 kB
THPeligible:           0
VmFlags: rd mr mw me sd 
7f10c0000000-7f10c0200000 rw-s 00000000 00:0f 5124                       /anon_hugepage (deleted)
Size:               2048 kB
KernelPageSize:     2048 kB
VmFlags: rd wr sh mr mw me ms de ht sd uw 
7f10c2a00000-7f10c2a21000 rw-p 00000000 00:00 0 
Size:                132 kB
VmFlags: rd wr mr mw me ac sd 
7ffd3d5a1000-7ffd3d5c2000 rw-p 00000000 00:00 0                          [stack]
Size:                132 kB
ProtectionKey:         0
VmFlags: rd wr mr mw me gd ac 
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
Size:                  4 kB
VmFlags: ex 
"""  # noqa: W291 - the kernel writes it so


def test_every_field_of_a_line_is_read():
    cat, hugetlb, anonymous, stack, vsyscall = parse_smaps(SMAPS)
    assert (cat.start, cat.end, cat.permissions) == (0x5581AE600000, 0x5581AE602000, "r--p")
    assert (cat.offset, cat.device, cat.inode, cat.name) == (0x1000, "fe:01", 131086, "/usr/bin/cat")
    assert (hugetlb.page_size, hugetlb.name, hugetlb.shared) == (2 << 20, "/anon_hugepage (deleted)", True)
    assert (anonymous.name, anonymous.anonymous, anonymous.page_size) == ("", True, PAGE_SIZE)
    assert (stack.name, vsyscall.name) == ("[stack]", "[vsyscall]")
    assert vsyscall.end == 0xFFFFFFFFFF601000


def test_flags_belong_to_the_mapping_above_them():
    flags = [mapping.flags for mapping in parse_smaps(SMAPS)]
    assert flags[0] == {"rd", "mr", "mw", "me", "sd"}
    assert [("uw" in found) for found in flags] == [False, True, False, False, False]
    assert flags[4] == {"ex"}


def test_maps_without_details_have_no_flags():
    (mapping,) = parse_smaps(b"1000-2000 rw-p 00000000 00:00 0 \n")
    assert (mapping.flags, mapping.page_size) == (None, PAGE_SIZE)


@pytest.mark.parametrize(
    "name",
    [
        "/d/VmFlags: uw",
        "/d/KernelPageSize:     2048 kB",
        "/d/1000-2000 rw-p 00000000 00:00 0",
        "/d/a\\012VmFlags: uw",
        "/d/x\rVmFlags: uw",
        "/d/x\x85VmFlags: uw",
        "/d/x (deleted)",
        "/d/  many   spaces ",
        "[heap]",
        "[anon:VmFlags: uw]",
    ],
)
def test_a_name_is_never_taken_for_anything_else(name):
    text = f"1000-2000 rw-p 00000000 00:01 7    {name}\nKernelPageSize:        4 kB\nVmFlags: rd wr \n"
    (mapping,) = parse_smaps(text.encode())
    assert (mapping.name, mapping.page_size, mapping.flags) == (name, 4096, {"rd", "wr"})


def test_names_that_are_no_utf8_keep_every_byte_apart():
    names = {
        parse_smaps(b"1000-2000 rw-p 00000000 00:01 7 /x" + bytes([byte]) + b"\n")[0].name for byte in (0xFE, 0xFF)
    }
    assert names == {"/x\\xfe", "/x\\xff"}


def test_nothing_mapped_is_no_mapping():
    assert parse_smaps(b"") == []
