"""Running a script on both sides, and saying where they part."""

from collections.abc import Sequence
from dataclasses import dataclass

from pagewatch.model import Quirks
from support.versus.live import Live
from support.versus.modelled import Modelled
from support.versus.outcomes import PAGE, Arena, Outcome, Step

_PARTS = ("result", "regions", "pagemap bits 55..63", "areas")


@dataclass(frozen=True)
class Difference:
    """The first step of a script that ends otherwise in the kernel than in the model."""

    script: tuple[Step, ...]
    """Up to and with that step."""
    kernel: Outcome
    model: Outcome

    def __str__(self) -> str:
        lines = ["the kernel and the model part here:", *(f"    {step!r}," for step in self.script)]
        for name, kernel, model in zip(_PARTS, _parts(self.kernel), _parts(self.model), strict=True):
            if kernel != model:
                lines += [f"  {name}:", f"    kernel {_shown(kernel)}", f"    model  {_shown(model)}"]
        return "\n".join(lines)


def first_difference(script: Sequence[Step], kernel: Sequence[Outcome], model: Sequence[Outcome]) -> Difference | None:
    """Compare step by step.

    :raises ValueError: a step has no outcome on one of the sides.
    """
    for index, (ours, theirs) in enumerate(zip(kernel, model, strict=True)):
        if ours != theirs:
            return Difference(tuple(script[: index + 1]), ours, theirs)
    return None


def compare(live: Live, arena: Arena, script: Sequence[Step], quirks: Quirks | None = None) -> list[Outcome]:
    """The outcomes on which both sides agree.

    :raises AssertionError: they part.
    """
    modelled = Modelled(arena, quirks)
    expected = [modelled.outcome(step) for step in script]
    got = live.run(arena, script)
    difference = first_difference(script, got, expected)
    assert difference is None, str(difference)
    return got


def difference_of(live: Live, arena: Arena, script: Sequence[Step], quirks: Quirks | None = None) -> Difference | None:
    """Run a script on both sides; None also where it names processes or descriptors that do not exist."""
    modelled = Modelled(arena, quirks)
    expected = []
    for step in script:
        if not modelled.valid(step):
            return None
        expected.append(modelled.outcome(step))
    return first_difference(script, live.run(arena, script), expected)


def shrunk(live: Live, arena: Arena, found: Difference, quirks: Quirks | None = None) -> Difference:
    """The same difference with every step left out that it does not need."""
    index = len(found.script) - 1
    while index > 0:
        index -= 1
        script = found.script[:index] + found.script[index + 1 :]
        smaller = difference_of(live, arena, script, quirks)
        if smaller is not None:
            found = smaller
            index = min(index, len(found.script) - 1)
    return found


def _parts(outcome: Outcome) -> tuple[object, ...]:
    result, observation = outcome
    return (result, *observation)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_shown, value)) + ")"
    # Addresses are read more easily in hexadecimal.
    return hex(value) if isinstance(value, int) and value >= PAGE else repr(value)
