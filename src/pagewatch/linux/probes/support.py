"""What a probe answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from pagewatch.vocab.errors import CannotAttach, FeatureMissing, NotPermitted


@dataclass(frozen=True, slots=True)
class Support:
    """Whether one thing works here; true in a condition if it does."""

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

    def __bool__(self) -> bool:
        return self.ok


def ask(probe: Callable[[], Support]) -> Support:
    """Run a probe. What the library itself says is missing is an answer; anything else is a broken probe.

    A broken probe is a bug of pagewatch, yet no reason to keep the user from all the rest: it answers no,
    with ``error`` set.
    """
    try:
        return probe()
    except (FeatureMissing, NotPermitted, CannotAttach) as error:
        return Support.no(error.reason, error.hint)
    except Exception as error:
        text = f"unknown, the probe failed: {type(error).__name__}: {error}"
        return Support(ok=False, reason=text, hint="this is a bug of pagewatch, please report it", error=error)
