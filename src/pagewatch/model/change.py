"""What a change of protection is about."""

from enum import Enum


class Change(Enum):
    """What to change; access rights always become those of the area."""

    ACCESS = "access rights only (mprotect)"
    WP = "set userfaultfd write-protection"
    RESOLVE = "lift userfaultfd write-protection"
