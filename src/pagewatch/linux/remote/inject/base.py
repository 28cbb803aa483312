"""What a machine must offer so that a stopped thread can be made to run a system call."""

from dataclasses import dataclass
from typing import Protocol

from pagewatch.linux.remote.tracee import Tracee


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What a thread was doing when it was stopped, and thus how it goes on.

    A thread caught in a system call must run that call again. The exact way is to enter it again and to let the
    thread go at the entry: until then every signal stays blocked, so one that arrives meanwhile interrupts the
    call from inside, as it would have done before. Set at the instruction before instead, the signal would be
    handled first, and a ``pause()`` that waited for it would never return.
    """

    registers: bytes
    """General registers to go on with from a stop in ``get_signal``."""
    reentry: bytes | None = None
    """General registers that enter the interrupted system call again; None if there was none."""
    extra: tuple[tuple[int, bytes], ...] = ()
    """Other register sets that a system call does not preserve, by ELF note type."""


class Architecture(Protocol):
    """One machine.

    To add one:

    1. its system call numbers in ``linux/abi/numbers.py``, its register structure in ``linux/abi/ptrace.py``;
    2. ``inject/<machine>.py`` with these names as module attributes, and its row in ``ARCHITECTURES``;
    3. in ``settle``, from its ``arch/*/kernel/signal.c``: how an interrupted call is recognised at the first stop
       (before or after the kernel has rewound it?), what calls it by its true number (``restart_syscall`` for
       sleeps with a timeout), and which registers a system call destroys beyond its result;
    4. in ``calling``: what else in the registers could make the call fault or be taken for a restart (trap flag,
       branch target state, the number of the call before).

    ``tests/unit/linux/remote/test_inject.py`` runs every row; ``tests/live/test_attach*.py`` run on the machine itself.
    """

    instruction: bytes
    """The system call instruction as it lies in memory."""
    alignment: int
    """Of instructions, in bytes."""
    registers_bytes: int
    """Size of NT_PRSTATUS for native code; a thread in 32-bit code has less."""

    def settle(self, thread: Tracee, deadline_ns: int | None) -> Interrupted:
        """Find out what a trapped thread, its signals blocked, was doing, and leave it fit to be given calls.

        :raises TimeoutError: the thread does not run.
        """
        ...

    def instruction_pointer(self, registers: bytes) -> int:
        """Where the registers say the thread goes on."""
        ...

    def moved(self, registers: bytes, address: int) -> bytes:
        """The same registers, going on elsewhere."""
        ...

    def calling(self, registers: bytes, address: int, number: int, argument: int) -> bytes:
        """Registers that run a system call of one argument through the instruction at an address."""
        ...

    def result(self, registers: bytes) -> int:
        """What the system call just left returned, negative errno for errors."""
        ...
