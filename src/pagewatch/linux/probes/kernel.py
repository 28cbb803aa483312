"""The self-tests for kernel bugs, as features: no means that the bug is there."""

from pagewatch.linux import selftests
from pagewatch.linux.probes.support import Support

_UPDATE = "a kernel with the fixes of July 2026: 6.12.107, 6.18.44, 7.2.13 or newer"


def probe_reports_dropped_huge_pages() -> Support:
    """See :func:`pagewatch.linux.selftests.reports_dropped_huge_pages`."""
    if selftests.reports_dropped_huge_pages():
        return Support.yes()
    return Support.no("huge pages dropped by MADV_DONTNEED are not reported; epochs name it as a blind spot", _UPDATE)


def probe_reports_dropped_pages() -> Support:
    """See :func:`pagewatch.linux.selftests.reports_dropped_pages`."""
    if selftests.reports_dropped_pages():
        return Support.yes()
    return Support.no("single pages dropped by MADV_DONTNEED are not reported", _UPDATE)


def probe_reports_kernel_writes() -> Support:
    """See :func:`pagewatch.linux.selftests.reports_kernel_writes`."""
    if selftests.reports_kernel_writes():
        return Support.yes()
    return Support.no("what system calls such as read(2) write into armed memory is not reported", _UPDATE)


def probe_reports_exact_walk_end() -> Support:
    """See :func:`pagewatch.linux.selftests.reports_exact_walk_end`."""
    if selftests.reports_exact_walk_end():
        return Support.yes()
    return Support.no(
        "the raw call ends results of more than 512 regions with a stale walk_end",
        "nothing to do: pagewatch does not rely on it; programs of your own must not either",
    )
