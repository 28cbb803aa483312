"""Running a system call in a stopped thread: one file per machine behind one Protocol (``base``)."""

import os

from pagewatch.linux.remote.inject import aarch64, x86_64
from pagewatch.linux.remote.inject.base import Architecture
from pagewatch.vocab.errors import FeatureMissing

ARCHITECTURES: dict[str, Architecture] = {"x86_64": x86_64, "aarch64": aarch64}
"""By the machine name that ``os.uname()`` gives."""


def architecture() -> Architecture:
    """The one of this machine.

    :raises FeatureMissing: nobody has written it yet.
    """
    machine = os.uname().machine
    try:
        return ARCHITECTURES[machine]
    except KeyError:
        known = " and ".join(ARCHITECTURES)
        raise FeatureMissing("attach", f"not written for {machine}", f"works on {known}") from None
