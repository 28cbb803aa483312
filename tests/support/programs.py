"""Small random programs for the explorer: threads with cells, locks and waits, and all that came of a run.

What came of it (:class:`Outcome`) is told by the program itself: it holds whatever anybody could have seen,
so two executions that differ in any way that matters have different outcomes. It never asks the explorer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from pagewatch.model.locks import Lock, RwLock
from pagewatch.steps import READ, RMW, WAIT, WRITE, access, wait

Action = tuple[str, Any]
"""What to do, and with which cell, or within what."""
Program = tuple[tuple[Action, ...], ...]


@dataclass
class Machine:
    """What the threads of a program share, and what each of them has seen."""

    cells: dict[str, int] = field(default_factory=lambda: {"x": 0, "y": 0})
    lock: Lock = field(default_factory=lambda: Lock("m", "m"))
    rwlock: RwLock = field(default_factory=lambda: RwLock("rw", "rw"))
    lock_may_be_passed: bool = False
    """Whether the lock's holder is in a section that a drain does not wait for."""
    seen: dict[int, list[object]] = field(default_factory=dict)

    def outcome(self) -> object:
        """All that anybody could have seen."""
        return tuple(sorted(self.cells.items())), tuple(sorted((who, tuple(what)) for who, what in self.seen.items()))


def threads(program: Program, machine: Machine) -> list[Callable[[], None]]:
    """The threads of a program, to be run on a fresh machine."""
    machine.seen = {number: [] for number in range(len(program))}

    def body(number: int, actions: tuple[Action, ...]) -> Callable[[], None]:
        return lambda: _perform(machine, number, actions)

    return [body(number, actions) for number, actions in enumerate(program)]


def _perform(machine: Machine, me: int, actions: tuple[Action, ...]) -> None:
    for name, operand in actions:
        if isinstance(operand, str):
            _use_cell(machine, me, name, operand)
        elif name in {"try", "try shared"}:
            _attempt(machine, me, name, operand)
        elif name == "drain":
            wait("m", WAIT, "drain m", lambda: machine.lock_may_be_passed or machine.lock.is_free())
            machine.seen[me].append((name, machine.lock.is_free()))
        elif name == "passable lock":
            _hold_passable(machine, me, operand)
        else:
            held = {"lock": machine.lock, "shared": machine.rwlock.shared, "exclusive": machine.rwlock.exclusive}[name]
            with held:
                machine.seen[me].append(name)
                _perform(machine, me, operand)


def _hold_passable(machine: Machine, me: int, inner: tuple[Action, ...]) -> None:
    """Hold the lock in a way that a drain passes, as a broadcast passes a section with interrupts off."""
    machine.lock.acquire()
    machine.lock_may_be_passed = True
    _perform(machine, me, inner)
    machine.lock.release()
    machine.lock_may_be_passed = False


def _use_cell(machine: Machine, me: int, name: str, cell: str) -> None:
    seen, cells = machine.seen[me], machine.cells
    match name:
        case "read":
            access(cell, READ, f"read {cell}")
            seen.append(cells[cell])
        case "write":
            access(cell, WRITE, f"write {cell}")
            cells[cell] = 10 * cells[cell] + me + 1  # tells the order of all writes
        case "set if clear":
            access(cell, RMW, f"set {cell} if clear")
            seen.append(cells[cell] == 0)
            cells[cell] = cells[cell] or me + 1
        case "wait":
            wait(cell, WAIT, f"wait for {cell}", lambda: cells[cell] != 0)
            seen.append(cells[cell])
        case "take":
            wait(cell, RMW, f"take {cell}", lambda: cells[cell] != 0)
            seen.append(cells[cell])
            cells[cell] = 0


def _attempt(machine: Machine, me: int, name: str, inner: tuple[Action, ...]) -> None:
    got = machine.lock.try_acquire() if name == "try" else machine.rwlock.try_shared()
    machine.seen[me].append((name, got))
    if got:
        _perform(machine, me, inner)
        (machine.lock if name == "try" else machine.rwlock.shared).release()


_CELLS = st.tuples(st.sampled_from(["read", "write", "write", "set if clear", "wait", "take"]), st.sampled_from("xy"))
_SIMPLE = st.one_of(_CELLS, _CELLS, _CELLS, st.just(("drain", ())))


def _locked(inner: st.SearchStrategy[Action]) -> st.SearchStrategy[Action]:
    kinds = st.sampled_from(["lock", "passable lock", "shared", "exclusive", "try", "try shared"])
    return st.tuples(kinds, st.lists(inner, max_size=2).map(tuple))


def _n_steps(action: Action) -> int:
    if isinstance(action[1], tuple):
        return 2 + sum(map(_n_steps, action[1]))
    return 1


def _small(program: Program) -> bool:
    """Whether plain enumeration ends soon: at most about ten thousand interleavings."""
    lengths = [sum(map(_n_steps, thread)) for thread in program]
    return sum(lengths) <= 11 and len([length for length in lengths if length > 4]) <= 1


_THREAD = st.lists(st.one_of(_SIMPLE, _locked(st.one_of(_SIMPLE, _locked(_SIMPLE)))), min_size=1, max_size=4).map(tuple)
PROGRAMS = st.lists(_THREAD, min_size=2, max_size=3).map(tuple).filter(_small)
"""Programs of two or three threads, few enough steps to enumerate."""
