"""Page-table formats: real bit layouts and level geometry, one file per family.

``format`` is the vocabulary and the Protocol (with the checklist for adding one); ``layout``,
``absent``, ``entries`` and ``levels`` are what most formats share; ``swaptypes`` are the kinds of
non-present entries; ``blocks`` writes and reads leaves that take several entries, ``contpte`` folds and
unfolds them.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from pagewatch.model.arch.arm64 import arm64_4k, arm64_16k, arm64_64k
from pagewatch.model.arch.format import PageTableFormat
from pagewatch.model.arch.ppc_8xx import ppc_8xx, ppc_8xx_hugepd
from pagewatch.model.arch.ppc_book3s64 import hash_4k, hash_4k_hugepd, hash_64k, radix_4k, radix_64k
from pagewatch.model.arch.ppc_e500 import ppc_e500
from pagewatch.model.arch.riscv import riscv64
from pagewatch.model.arch.s390 import s390
from pagewatch.model.arch.x86 import x86_64


class _Arches(Mapping[str, PageTableFormat]):
    """Formats by name, each made when it is first wanted: a kernel has one."""

    def __init__(self, makers: dict[str, Callable[[], PageTableFormat]]) -> None:
        self._makers = makers
        self._made: dict[str, PageTableFormat] = {}

    def __getitem__(self, name: str) -> PageTableFormat:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


ARCHES: Mapping[str, PageTableFormat] = _Arches(
    {
        "x86_64": x86_64,
        "x86_64-la57": partial(x86_64, five_levels=True),
        "arm64-4k": arm64_4k,
        "arm64-16k": arm64_16k,
        "arm64-64k": arm64_64k,
        "riscv64-sv39": partial(riscv64, "riscv64-sv39", ("PTE", "PMD", "PGD")),
        "riscv64": partial(riscv64, "riscv64", ("PTE", "PMD", "PUD", "PGD")),
        "riscv64-sv57": partial(riscv64, "riscv64-sv57", ("PTE", "PMD", "PUD", "P4D", "PGD")),
        "s390": s390,
        "ppc-8xx": ppc_8xx,
        "ppc-8xx-hugepd": ppc_8xx_hugepd,
        "ppc-e500": partial(ppc_e500, wide=False, hugepd=False),
        "ppc-e500-hugepd": partial(ppc_e500, wide=False, hugepd=True),
        "ppc64-e500": partial(ppc_e500, wide=True, hugepd=False),
        "ppc64-e500-hugepd": partial(ppc_e500, wide=True, hugepd=True),
        "ppc64-hash-4k": hash_4k,
        "ppc64-hash-4k-hugepd": hash_4k_hugepd,
        "ppc64-hash-64k": hash_64k,
        "ppc64-radix-4k": radix_4k,
        "ppc64-radix-64k": radix_64k,
        "arm64": lambda: ARCHES["arm64-4k"],
    }
)
"""Every format by name; what ``Kernel(arch=...)`` accepts. "arm64" is its 4K granule."""
