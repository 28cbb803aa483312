"""What a probe answers."""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from pagewatch.linux.proc import under_seccomp_filter
from pagewatch.vocab.errors import CannotAttach, CannotLaunch, FeatureMissing, NotPermitted

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
_REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS)


@dataclass(frozen=True, slots=True)
class Support:
    """Whether one thing works here."""

    ok: bool
    reason: str = ""
    """Why not, or how: one line in plain words."""
    hint: str = ""
    """How to get it; empty where there is nothing to do."""
    error: Exception | None = None
    """Set if the probe itself failed in a way that it did not foresee: the answer is then unknown."""

    @classmethod
    def yes(cls, how: str = "") -> Self:
        """It works; ``how`` is worth knowing."""
        return cls(ok=True, reason=how)

    @classmethod
    def no(cls, reason: str, hint: str = "") -> Self:
        """It does not."""
        return cls(ok=False, reason=reason, hint=hint)


def ask(probe: Callable[[], Support]) -> Support:
    """Run a probe. What the library itself says is missing is an answer; anything unforeseen is a broken probe.

    A broken probe is a bug of pagewatch, yet no reason to keep the user from all the rest: it answers no,
    with ``error`` set.
    """
    try:
        return probe()
    except (FeatureMissing, NotPermitted, CannotAttach, CannotLaunch) as error:
        return Support.no(error.reason, error.hint)
    except OSError as error:
        return _circumstances(error) or _broken(error)
    except Exception as error:
        return _broken(error)


def _circumstances(error: OSError) -> Support | None:
    """What may befall every probe, whatever it does."""
    if error.errno in _EXHAUSTED:
        return Support.no(f"could not be tried: {error}", "allow or free more: ulimit -n, ulimit -u, memory")
    if error.errno in _REFUSED and under_seccomp_filter():
        return Support.no(
            f"the seccomp filter of this container or sandbox refuses a system call that it takes ({error})",
            "allow it in the filter's profile, or run outside",
        )
    return None


def _broken(error: Exception) -> Support:
    text = f"unknown, the probe failed: {type(error).__name__}: {error}"
    return Support(ok=False, reason=text, hint="this is a bug of pagewatch, please report it", error=error)
