"""Guard markers: lightweight PROT_NONE pages without an area of their own (MADV_GUARD_INSTALL, REMOVE)."""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import MARKER_GUARD
from pagewatch.model.errors import KernelBug
from pagewatch.model.gather import Zap
from pagewatch.model.rmap import prepare_anon_vma
from pagewatch.model.vma import VM_MAYBE_GUARD
from pagewatch.model.walk import locked_spans, populated
from pagewatch.model.zap import zap_range
from pagewatch.steps import RMW, access

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


def install_guards(mm: "Mm", vma: "Vma", start: int, end: int) -> None:
    """Replace what is in [start, end) by guard markers; write-protection there is lost with it.

    What is in the way is zapped, and the walk begins again. In file memory write-protection survives that.

    :raises KernelBug: so the call never ends, in kernels where this was not noticed.
    """
    how = Zap.DONTNEED if mm.machine.quirks.guard_install_spins_on_markers else Zap.UNMAP
    # Either gives fork a reason to copy the tables, and with them the markers, and collapse one to keep them.
    if mm.machine.quirks.guards_mark_areas:
        access(("area", vma.number), RMW, "guard: mark the area")
        vma.flags |= VM_MAYBE_GUARD
    if vma.anonymous or not mm.machine.quirks.guards_mark_areas:
        prepare_anon_vma(mm, vma)
    address, zapped = start, -1
    while address < end:
        with populated(mm, address, "guard: find") as spot:
            entry = spot.table.read(spot.slot, "guard: look")
            done = not entry or bool(spot.fmt.marker(entry) & MARKER_GUARD)
            if not entry:
                spot.table.write(spot.slot, spot.fmt.marker_entry(MARKER_GUARD), "guard: install")
        if done:
            address += mm.machine.page_bytes
        elif zapped == address:
            raise KernelBug(f"MADV_GUARD_INSTALL starts over for ever: zapping leaves the marker at {address:#x}")
        else:
            zap_range(mm, vma, address, end, how)
            zapped = address


def remove_guards(mm: "Mm", start: int, end: int) -> None:
    """Make guard markers empty entries again; everything else stays."""
    for span in locked_spans(mm, start, end, "guard: walk"):
        if span.spot.level:
            continue
        table = span.spot.table
        for index in span.indexes:
            if table.fmt.marker(table.read(index, "guard: look")) & MARKER_GUARD:
                table.write(index, 0, "guard: remove")
