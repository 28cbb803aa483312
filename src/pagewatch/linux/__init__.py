"""The live world: system calls, /proc, ptrace, as thin as they can be.

Kernel spelling and numbers live in ``abi`` only; every system call passes ``syscalls``; policy lives in
``pagewatch.trackers``, never here.
"""
