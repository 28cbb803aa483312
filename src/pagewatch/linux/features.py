"""What this kernel lets this user do: every feature is probed by its effect, and has one name everywhere.

The name of a feature is the attribute of :class:`Features`, the line that ``pagewatch doctor`` prints, the
argument of a test's ``requires``, and what :meth:`Features.without` switches off. To add one, write its probe
in ``probes`` and add one line to :class:`Features`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import Annotated, get_type_hints

from pagewatch.linux.probes.kernel import (
    probe_reports_dropped_huge_pages,
    probe_reports_dropped_pages,
    probe_reports_exact_walk_end,
    probe_reports_kernel_writes,
)
from pagewatch.linux.probes.kinds import (
    probe_disk_files,
    probe_hugetlb,
    probe_process_madvise_collapse,
    probe_shmem,
    probe_thp,
)
from pagewatch.linux.probes.machine import probe_kvm, probe_perf_page_faults
from pagewatch.linux.probes.others import probe_attach, probe_launch, probe_soft_dirty
from pagewatch.linux.probes.support import Support, ask
from pagewatch.linux.probes.sync import probe_uffd_wp_sync
from pagewatch.linux.probes.tracking import (
    probe_pagemap_scan,
    probe_procmap_query,
    probe_scan_guard_category,
    probe_uffd_wp_async,
    probe_userfaultfd,
)
from pagewatch.vocab.errors import FeatureMissing, InvalidArgument


class Group(Enum):
    """What a feature is to the user; the value is a heading."""

    ABILITY = "What you can track"
    MECHANISM = "Mechanisms"
    SELF_TEST = "Kernel self-tests"


@dataclass(frozen=True, slots=True)
class Question:
    """How a feature is probed and presented."""

    group: Group
    title: str
    """A few words that say what it is good for."""
    probe: Callable[[], Support]


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The answer of every probe; iterates as (name, support), in the order they are printed in."""

    uffd_wp_async: Annotated[Support, Question(Group.ABILITY, "memory of this process", probe_uffd_wp_async)]
    launch: Annotated[Support, Question(Group.ABILITY, "programs that pagewatch starts", probe_launch)]
    attach: Annotated[Support, Question(Group.ABILITY, "running processes of this user", probe_attach)]
    shmem: Annotated[Support, Question(Group.ABILITY, "shared memory (memfd, tmpfs)", probe_shmem)]
    disk_files: Annotated[Support, Question(Group.ABILITY, "mapped files on a disk", probe_disk_files)]
    thp: Annotated[Support, Question(Group.ABILITY, "transparent huge pages", probe_thp)]
    hugetlb: Annotated[Support, Question(Group.ABILITY, "pages of the hugetlb pool", probe_hugetlb)]

    userfaultfd: Annotated[Support, Question(Group.MECHANISM, "what write-protects", probe_userfaultfd)]
    pagemap_scan: Annotated[Support, Question(Group.MECHANISM, "what finds written pages", probe_pagemap_scan)]
    scan_guard_category: Annotated[
        Support, Question(Group.MECHANISM, "guard pages told apart", probe_scan_guard_category)
    ]
    procmap_query: Annotated[Support, Question(Group.MECHANISM, "single mappings, quickly", probe_procmap_query)]
    uffd_wp_sync: Annotated[Support, Question(Group.MECHANISM, "holding writers until told", probe_uffd_wp_sync)]
    soft_dirty: Annotated[Support, Question(Group.MECHANISM, "the older way to find writes", probe_soft_dirty)]
    process_madvise_collapse: Annotated[
        Support, Question(Group.MECHANISM, "split huge pages made whole", probe_process_madvise_collapse)
    ]
    perf_page_faults: Annotated[Support, Question(Group.MECHANISM, "counting page faults", probe_perf_page_faults)]
    kvm: Annotated[Support, Question(Group.MECHANISM, "virtual machines", probe_kvm)]

    reports_dropped_huge_pages: Annotated[
        Support, Question(Group.SELF_TEST, "dropped huge pages count as written", probe_reports_dropped_huge_pages)
    ]
    reports_dropped_pages: Annotated[
        Support, Question(Group.SELF_TEST, "dropped pages count as written", probe_reports_dropped_pages)
    ]
    reports_kernel_writes: Annotated[
        Support, Question(Group.SELF_TEST, "writes by system calls are seen", probe_reports_kernel_writes)
    ]
    reports_exact_walk_end: Annotated[
        Support, Question(Group.SELF_TEST, "long scans end where they say", probe_reports_exact_walk_end)
    ]

    def __iter__(self) -> Iterator[tuple[str, Support]]:
        return ((name, self[name]) for name in CATALOGUE)

    def __getitem__(self, name: str) -> Support:
        """The answer for a feature by name.

        :raises InvalidArgument: there is no feature of that name.
        """
        support: Support = getattr(self, known(name))
        return support

    def without(self, *names: str) -> "Features":
        """The same with some features switched off, so that what does without them can be tried anywhere.

        :raises InvalidArgument: there is no feature of one of the names.
        """
        off = Support.no("switched off on purpose")
        return replace(self, **{known(name): off for name in names})

    def require(self, *names: str) -> None:
        """Raise unless all these work.

        :raises FeatureMissing: the first that does not, with its reason and hint.
        :raises InvalidArgument: there is no feature of one of the names.
        """
        for name in names:
            support = self[name]
            if not support.ok:
                raise FeatureMissing(name, support.reason, support.hint) from support.error


def _catalogue() -> dict[str, Question]:
    hints = get_type_hints(Features, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


CATALOGUE: Mapping[str, Question] = MappingProxyType(_catalogue())
"""Every feature by name, in the order they are printed in."""


def known(name: str) -> str:
    """The name itself, if it is one.

    :raises InvalidArgument: there is no feature of that name.
    """
    if name not in CATALOGUE:
        raise InvalidArgument(f"there is no feature {name!r}; there are: {', '.join(CATALOGUE)}")
    return name


def probe_all() -> Features:
    """Probe everything now; takes a fraction of a second and leaves nothing behind. Needs no privilege."""
    return Features(**{name: ask(question.probe) for name, question in CATALOGUE.items()})


@cache
def features() -> Features:
    """What this kernel lets this user do, probed once in the life of the process.

    Each attribute is a :class:`Support`: ``ok``, a ``reason`` in plain words, and a ``hint`` at what to do.
    """
    return probe_all()
