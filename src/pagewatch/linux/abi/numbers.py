"""System call numbers, per machine (as ``os.uname().machine`` says): of calls that the C library has no wrapper
for, and of those that are told apart in other processes.

Sources: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h. Numbers from 424 on
are the same everywhere.
"""

SYSCALLS: dict[str, dict[str, int]] = {
    "x86_64": {
        "read": 0,
        "write": 1,
        "close": 3,
        "readv": 19,
        "writev": 20,
        "getpid": 39,
        "accept": 43,
        "sendto": 44,
        "recvfrom": 45,
        "sendmsg": 46,
        "recvmsg": 47,
        "semop": 65,
        "ptrace": 101,
        "rt_sigtimedwait": 128,
        "io_getevents": 208,
        "restart_syscall": 219,
        "semtimedop": 220,
        "epoll_wait": 232,
        "epoll_pwait": 281,
        "accept4": 288,
        "perf_event_open": 298,
        "recvmmsg": 299,
        "sendmmsg": 307,
        "process_vm_readv": 310,
        "userfaultfd": 323,
        "io_pgetevents": 333,
        "pidfd_send_signal": 424,
        "io_uring_enter": 426,
        "pidfd_open": 434,
        "pidfd_getfd": 438,
        "process_madvise": 440,
        "epoll_pwait2": 441,
    },
    "aarch64": {
        "close": 57,
        "getpid": 172,
        "ptrace": 117,
        "perf_event_open": 241,
        "process_vm_readv": 270,
        "userfaultfd": 282,
        "pidfd_send_signal": 424,
        "pidfd_open": 434,
        "pidfd_getfd": 438,
        "process_madvise": 440,
    },
}
