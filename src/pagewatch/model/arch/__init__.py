"""Page-table formats: real bit layouts and level geometry, one file per family.

``format`` is the vocabulary and the Protocol (with the checklist for adding one); ``layout``,
``absent``, ``entries`` and ``levels`` are what most formats share; ``swaptypes`` are the kinds of
non-present entries; ``blocks`` writes and reads leaves that take several entries, ``contpte`` folds and
unfolds them.
"""

from pagewatch.model.arch.arm64 import arm64_4k, arm64_16k, arm64_64k
from pagewatch.model.arch.format import PageTableFormat
from pagewatch.model.arch.ppc_8xx import ppc_8xx, ppc_8xx_hugepd
from pagewatch.model.arch.ppc_book3s64 import hash_4k, hash_4k_hugepd, hash_64k, radix_4k, radix_64k
from pagewatch.model.arch.ppc_e500 import ppc_e500
from pagewatch.model.arch.riscv import riscv64
from pagewatch.model.arch.s390 import s390
from pagewatch.model.arch.x86 import x86_64

_FORMATS = (
    x86_64(),
    x86_64(five_levels=True),
    arm64_4k(),
    arm64_16k(),
    arm64_64k(),
    riscv64("riscv64-sv39", ("PTE", "PMD", "PGD")),
    riscv64("riscv64", ("PTE", "PMD", "PUD", "PGD")),
    riscv64("riscv64-sv57", ("PTE", "PMD", "PUD", "P4D", "PGD")),
    s390(),
    ppc_8xx(),
    ppc_8xx_hugepd(),
    ppc_e500(wide=False, hugepd=False),
    ppc_e500(wide=False, hugepd=True),
    ppc_e500(wide=True, hugepd=False),
    ppc_e500(wide=True, hugepd=True),
    hash_4k(),
    hash_4k_hugepd(),
    hash_64k(),
    radix_4k(),
    radix_64k(),
)

ARCHES: dict[str, PageTableFormat] = {fmt.name: fmt for fmt in _FORMATS}
"""Every format by name; what ``Kernel(arch=...)`` accepts. "arm64" is its 4K granule."""
ARCHES["arm64"] = ARCHES["arm64-4k"]
