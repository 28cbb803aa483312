"""Geometry of every format, literally, as the architectures' headers have it."""

import pytest

from pagewatch.model.arch import ARCHES
from pagewatch.model.arch.format import (
    FLAG_NAMES,
    KIND_NAMES,
    MARKER,
    PROTNONE,
    UFFD_WP,
    WRITE,
    flag_names,
    size_name,
)
from pagewatch.vocab.errors import InvalidArgument
from support.formats import FORMATS

# name: (span of each level's entries from the PTE up, entries of each table, bits of address)
LEVELS = {
    "x86_64": ("4K 2M 1G 512G", (512, 512, 512, 512), 48),
    "x86_64-la57": ("4K 2M 1G 512G 256T", (512, 512, 512, 512, 512), 57),
    "arm64-4k": ("4K 2M 1G 512G", (512, 512, 512, 512), 48),
    "arm64-16k": ("16K 32M 64G 128T", (2048, 2048, 2048, 2), 48),
    "arm64-64k": ("64K 512M 4T", (8192, 8192, 64), 48),
    "riscv64-sv39": ("4K 2M 1G", (512, 512, 512), 39),
    "riscv64": ("4K 2M 1G 512G", (512, 512, 512, 512), 48),
    "riscv64-sv57": ("4K 2M 1G 512G 256T", (512, 512, 512, 512, 512), 57),
    "s390": ("4K 1M 2G 4T", (256, 2048, 2048, 2048), 53),
    "ppc-8xx": ("4K 4M", (1024, 1024), 32),
    "ppc-8xx-hugepd": ("4K 4M", (1024, 1024), 32),
    "ppc-e500": ("4K 2M", (512, 2048), 32),
    "ppc-e500-hugepd": ("4K 2M", (512, 2048), 32),
    "ppc64-e500": ("4K 2M 256M 128G", (512, 128, 512, 512), 46),
    "ppc64-e500-hugepd": ("4K 2M 256M 128G", (512, 128, 512, 512), 46),
    "ppc64-hash-4k": ("4K 2M 256M 128G", (512, 128, 512, 512), 46),
    "ppc64-hash-4k-hugepd": ("4K 2M 256M 128G", (512, 128, 512, 512), 46),
    "ppc64-hash-64k": ("64K 16M 16G 16T", (256, 1024, 1024, 256), 52),
    "ppc64-radix-4k": ("4K 2M 1G 512G", (512, 512, 512, 8192), 52),
    "ppc64-radix-64k": ("64K 2M 1G 512G", (32, 512, 512, 8192), 52),
}

# name: {page size: "entries x level"}, and with a hugepd or 8M on 8xx "directories x level -> tables below"
PAGES = {
    "x86_64": {"4K": "1 PTE", "2M": "1 PMD", "1G": "1 PUD"},
    "x86_64-la57": {"4K": "1 PTE", "2M": "1 PMD", "1G": "1 PUD"},
    "arm64-4k": {"4K": "1 PTE", "64K": "16 PTE", "2M": "1 PMD", "32M": "16 PMD", "1G": "1 PUD"},
    "arm64-16k": {"16K": "1 PTE", "2M": "128 PTE", "32M": "1 PMD", "1G": "32 PMD"},
    "arm64-64k": {"64K": "1 PTE", "2M": "32 PTE", "512M": "1 PMD", "16G": "32 PMD"},
    "riscv64-sv39": {"4K": "1 PTE", "64K": "16 PTE", "2M": "1 PMD", "1G": "1 PGD"},
    "riscv64": {"4K": "1 PTE", "64K": "16 PTE", "2M": "1 PMD", "1G": "1 PUD"},
    "riscv64-sv57": {"4K": "1 PTE", "64K": "16 PTE", "2M": "1 PMD", "1G": "1 PUD"},
    "s390": {"4K": "1 PTE", "1M": "1 PMD", "2G": "1 PUD"},
    "ppc-8xx": {"4K": "1 PTE", "16K": "4 PTE", "512K": "128 PTE", "8M": "2 PGD -> 2 PTE"},
    "ppc-8xx-hugepd": {"4K": "1 PTE", "16K": "4 PTE", "512K": "128 PTE", "8M": "2 PGD -> 1 hugepd"},
    "ppc-e500": {
        "4K": "1 PTE",
        "4M": "2 PGD",
        "16M": "8 PGD",
        "64M": "32 PGD",
        "256M": "128 PGD",
        "1G": "512 PGD",
    },
    "ppc-e500-hugepd": {
        "4K": "1 PTE",
        "4M": "2 PGD -> 1 hugepd",
        "16M": "8 PGD -> 1 hugepd",
        "64M": "32 PGD -> 1 hugepd",
        "256M": "128 PGD -> 1 hugepd",
        "1G": "512 PGD -> 1 hugepd",
    },
    "ppc64-e500": {
        "4K": "1 PTE",
        "4M": "2 PMD",
        "16M": "8 PMD",
        "64M": "32 PMD",
        "256M": "1 PUD",
        "1G": "4 PUD",
    },
    "ppc64-e500-hugepd": {
        "4K": "1 PTE",
        "4M": "2 PMD -> 1 hugepd",
        "16M": "8 PMD -> 1 hugepd",
        "64M": "32 PMD -> 1 hugepd",
        "256M": "1 PUD -> 1 hugepd",
        "1G": "4 PUD -> 1 hugepd",
    },
    "ppc64-hash-4k": {"4K": "1 PTE", "16M": "8 PMD", "16G": "64 PUD"},
    "ppc64-hash-4k-hugepd": {"4K": "1 PTE", "16M": "1 PUD -> 1 hugepd", "16G": "1 PGD -> 1 hugepd"},
    "ppc64-hash-64k": {"64K": "1 PTE", "16M": "1 PMD", "16G": "1 PUD"},
    "ppc64-radix-4k": {"4K": "1 PTE", "2M": "1 PMD", "1G": "1 PUD"},
    "ppc64-radix-64k": {"64K": "1 PTE", "2M": "1 PMD", "1G": "1 PUD"},
}

# Slots of a hugepd table: one a page that the directory entry spans, or one for all that share it.
HUGEPD_SLOTS = {
    ("ppc-8xx-hugepd", "8M"): 1,
    ("ppc-e500-hugepd", "4M"): 1,
    ("ppc64-e500-hugepd", "256M"): 1,
    ("ppc64-e500-hugepd", "1G"): 1,
    ("ppc64-hash-4k-hugepd", "16M"): 16,
    ("ppc64-hash-4k-hugepd", "16G"): 8,
}

SOFT_DIRTY_FORMATS = {"x86_64", "x86_64-la57", "s390"} | {
    name for name in FORMATS if name.startswith(("ppc64-hash", "ppc64-radix"))
}
UFFD_WP_FORMATS = {"x86_64", "x86_64-la57", "arm64-4k", "arm64-16k", "arm64-64k"}
FAULT_DRIVEN_FORMATS = {"s390"} | {name for name in FORMATS if "8xx" in name or "e500" in name}


def test_every_format_is_in_the_tables():
    assert set(LEVELS) == set(PAGES) == set(FORMATS)
    assert ARCHES["arm64"] is ARCHES["arm64-4k"]
    assert all(ARCHES[name].name == name for name in FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_levels(name):
    fmt = FORMATS[name]
    spans, entries, address_bits = LEVELS[name]
    assert " ".join(size_name(1 << level.shift) for level in fmt.at) == spans
    assert tuple(1 << level.index_bits for level in fmt.at) == entries
    assert fmt.address_bits == address_bits
    assert [level.level for level in fmt.at] == list(range(len(fmt.at)))
    assert fmt.root is fmt.at[-1]
    assert fmt.page_bytes == 1 << fmt.at[0].shift


@pytest.mark.parametrize("name", FORMATS)
def test_pages(name):
    fmt = FORMATS[name]
    described = {}
    for size, shape in fmt.shapes.items():
        level = fmt.at[shape.level]
        text = f"{shape.n_entries} {level.name}"
        if shape.n_tables:
            text += f" -> {shape.n_tables} {level.directories[size].name}"
        described[size_name(size)] = text
    assert described == PAGES[name]


def test_hugepd_tables_have_a_slot_for_each_page_of_the_span():
    for (name, page), slots in HUGEPD_SLOTS.items():
        fmt = FORMATS[name]
        size = next(size for size in fmt.shapes if size_name(size) == page)
        assert 1 << fmt.at[fmt.shape(size).level].directories[size].index_bits == slots


@pytest.mark.parametrize("name", FORMATS)
def test_features(name):
    features = FORMATS[name].features
    assert ("soft-dirty" in features) == (name in SOFT_DIRTY_FORMATS)
    assert ("uffd-wp" in features) == (name in UFFD_WP_FORMATS)
    assert ("hugepd" in features) == name.endswith("-hugepd")
    assert ("contiguous" in features) == any(
        text[0] != "1" or text[1] != " " for text in PAGES[name].values() if "->" not in text
    )
    assert {"hw-young", "hw-dirty"} <= features or name in FAULT_DRIVEN_FORMATS
    assert not {"hw-young", "hw-dirty"} & features or name not in FAULT_DRIVEN_FORMATS
    assert {"write", "young", "dirty", "protnone", "exclusive"} <= features


def test_unknown_sizes_are_answered_with_the_known_ones():
    with pytest.raises(InvalidArgument, match="x86_64 has no 64K pages; it has 4K, 2M, 1G"):
        ARCHES["x86_64"].shape(1 << 16)


@pytest.mark.parametrize(
    ("n_bytes", "name"), [(4096, "4K"), (1 << 21, "2M"), (3 << 30, "3G"), (1 << 47, "128T"), (1000, "1000")]
)
def test_size_name(n_bytes, name):
    assert size_name(n_bytes) == name


def test_names_are_in_order():
    assert flag_names(WRITE | UFFD_WP | PROTNONE) == ("write", "uffd-wp", "protnone")
    assert len(set(FLAG_NAMES)) == 11
    assert KIND_NAMES[MARKER] == "marker"
