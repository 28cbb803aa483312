"""Other processes: knowing which one is meant, and taking a userfaultfd out of one that runs.

``attach`` and ``launch`` are what the rest of the house uses. They ask a **surgeon**, a small process of its
own that does all ptrace work and lives on when the tracker is killed, so that no target is ever left
half-way. The surgeon imports only the standard library and this room::

    attach, launch      the tracker's side: one request, one answer, one descriptor
    client | surgeon    the socket between them, from either end (protocol: what passes over it)
    surgery             stop one thread, run two system calls in it, put everything back
    inject/             how that is done on each machine
    tracee              ptrace itself
    identity            a process that cannot be mistaken for another with the same pid
    procstat            /proc/PID/stat and its relatives
"""
