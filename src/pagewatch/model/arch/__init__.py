"""Page-table formats: real bit layouts and level geometry, one file per family.

``format`` is the vocabulary and the Protocol (with the checklist for adding one), ``entries`` what most
formats share, ``swaptypes`` the kinds of non-present entries, ``blocks`` the writing and reading of
leaves that take several entries.
"""

from pagewatch.model.arch.format import PageTableFormat
from pagewatch.model.arch.x86 import x86_64

_FORMATS = (
    x86_64(),
    x86_64(five_levels=True),
)

ARCHES: dict[str, PageTableFormat] = {fmt.name: fmt for fmt in _FORMATS}
"""Every format by name; what ``Kernel(arch=...)`` accepts."""
