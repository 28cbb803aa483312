"""System call numbers that the C library has no wrapper for, per machine (as ``os.uname().machine`` says).

Sources: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h. Numbers from 424 on
are the same everywhere.
"""

SYSCALLS: dict[str, dict[str, int]] = {
    "x86_64": {
        "close": 3,
        "getpid": 39,
        "process_vm_readv": 310,
        "userfaultfd": 323,
        "pidfd_send_signal": 424,
        "pidfd_open": 434,
        "pidfd_getfd": 438,
        "process_madvise": 440,
    },
    "aarch64": {
        "close": 57,
        "getpid": 172,
        "process_vm_readv": 270,
        "userfaultfd": 282,
        "pidfd_send_signal": 424,
        "pidfd_open": 434,
        "pidfd_getfd": 438,
        "process_madvise": 440,
    },
}
