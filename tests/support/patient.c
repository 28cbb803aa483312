/* Programs to attach to, one per mode: patient MODE [ARGUMENT [MILLISECONDS]]. Each prints "ready", does what its mode says while a
 * tracker comes and goes, and then prints what it saw. Nothing here knows of trackers. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long duration_ms = 1500;
static volatile sig_atomic_t n_signals;
static volatile char order[64];

static void ready(void) { if (write(1, "ready\n", 6) != 6) _exit(99); }

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void note(int number) {
    if (n_signals < (int)sizeof order - 1) order[n_signals] = number == SIGUSR1 ? '1' : number == SIGUSR2 ? '2' : 'A';
    n_signals++;
}

static void handle(int number, int flags) {
    struct sigaction action = {.sa_handler = note, .sa_flags = flags};
    sigaction(number, &action, NULL);
}

static struct timespec milliseconds(long ms) { return (struct timespec){ms / 1000, ms % 1000 * 1000000}; }

/* --- calls with a timeout: "RESULT ERRNO ELAPSED" */

static long timed_call(const char *name, long ms) {
    struct timespec t = milliseconds(ms);
    int word = 7;
    if (!strcmp(name, "nanosleep")) return nanosleep(&t, NULL);
    if (!strcmp(name, "poll")) return poll(NULL, 0, ms);
    if (!strcmp(name, "ppoll")) return ppoll(NULL, 0, &t, NULL);
    if (!strcmp(name, "futex")) return syscall(SYS_futex, &word, FUTEX_WAIT, 7, &t, NULL, 0);
    if (!strcmp(name, "clock_nanosleep")) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += (until.tv_nsec + t.tv_nsec) / 1000000000 + t.tv_sec;
        until.tv_nsec = (until.tv_nsec + t.tv_nsec) % 1000000000;
        return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
#ifdef __x86_64__
    if (!strcmp(name, "int80")) {
        long result;
        __asm__ volatile("int $0x80" : "=a"(result) : "0"(168), "b"(0), "c"(0), "d"(ms) : "memory");
        return result;
    }
#endif
    exit(98);
}

static int timed(const char *name) {
    ready();
    double start = now_ms();
    errno = 0;
    long result = timed_call(name, duration_ms);
    printf("%ld %d %.0f\n", result, errno, now_ms() - start);
    return 0;
}

/* --- calls that wait for something: "RESULT ERRNO" */

static int waiting(const char *name) {
    long result = -2;
    char byte;
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
    int pair[2];
    struct timeval minute = {60, 0};
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof minute);
    sigset_t usr1;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    ready();
    errno = 0;
    if (!strcmp(name, "read")) result = read(0, &byte, 1);
    if (!strcmp(name, "epoll")) result = epoll_wait(epoll, &event, 1, -1);
    if (!strcmp(name, "epoll_pwait")) result = epoll_pwait(epoll, &event, 1, -1, &usr1);
    if (!strcmp(name, "recv")) result = recv(pair[0], &byte, 1, 0);
    if (!strcmp(name, "semop")) {
        int set = semget(IPC_PRIVATE, 1, 0600);
        struct sembuf take = {0, -1, 0};
        struct timespec limit = milliseconds(60000);
        result = semtimedop(set, &take, 1, &limit);
        int saved = errno;
        semctl(set, 0, IPC_RMID);
        errno = saved;
    }
    if (!strcmp(name, "sigtimedwait")) {
        struct timespec limit = milliseconds(60000);
        sigprocmask(SIG_BLOCK, &usr1, NULL);
        result = sigtimedwait(&usr1, NULL, &limit);
    }
    if (!strcmp(name, "pause")) {
        handle(SIGUSR1, SA_RESTART);
        result = pause();
    }
    printf("%ld %d %s\n", result, errno, (char *)order);
    return 0;
}

/* SIGUSR2 is free outside and blocked inside, SIGUSR1 the other way round: only it may end the wait. */
static int suspended(const char *unused) {
    sigset_t outside, inside;
    handle(SIGUSR1, 0);
    handle(SIGUSR2, 0);
    sigemptyset(&outside);
    sigaddset(&outside, SIGUSR1);
    sigprocmask(SIG_SETMASK, &outside, NULL);
    sigemptyset(&inside);
    sigaddset(&inside, SIGUSR2);
    ready();
    sigsuspend(&inside);
    printf("%s\n", (char *)order);
    return 0;
}

/* --- computing */

/* A generator whose every step needs the one before: "CHECKSUM STEPS" once standard input has ended. */
static uint64_t scramble(uint64_t x) { return x * 6364136223846793005u + 1442695040888963407u; }

static int input_ended(void) {
    struct pollfd input = {.fd = 0, .events = POLLIN};
    return poll(&input, 1, 0) > 0;
}

#if defined(__x86_64__)
/* Fills registers with known values, spins, and tells whether one changed. */
static int registers_hold(long spins) {
    long bad;
    __asm__ volatile(
        "push %%rbp\n movq $0x1111, %%rbp\n movq $0x2222, %%rbx\n movq $0x3333, %%rcx\n movq $0x4444, %%rdx\n"
        "movq $0x5555, %%rsi\n movq $0x6666, %%rdi\n movq $0x8888, %%r8\n movq $0x9999, %%r9\n movq $0xaaaa, %%r10\n"
        "movq $0xbbbb, %%r11\n movq $0xcccc, %%r12\n movq $0xdddd, %%r13\n movq $0xeeee, %%r14\n"
        "movq %%rbp, %%xmm0\n movq %%r14, %%xmm15\n"
        "1: dec %%rax\n jnz 1b\n"
        "xorq $0x1111, %%rbp\n xorq $0x2222, %%rbx\n xorq $0x3333, %%rcx\n xorq $0x4444, %%rdx\n"
        "xorq $0x5555, %%rsi\n xorq $0x6666, %%rdi\n xorq $0x8888, %%r8\n xorq $0x9999, %%r9\n xorq $0xaaaa, %%r10\n"
        "xorq $0xbbbb, %%r11\n xorq $0xcccc, %%r12\n xorq $0xdddd, %%r13\n xorq $0xeeee, %%r14\n"
        "or %%rbp, %%rax\n or %%rbx, %%rax\n or %%rcx, %%rax\n or %%rdx, %%rax\n or %%rsi, %%rax\n or %%rdi, %%rax\n"
        "or %%r8, %%rax\n or %%r9, %%rax\n or %%r10, %%rax\n or %%r11, %%rax\n or %%r12, %%rax\n or %%r13, %%rax\n"
        "or %%r14, %%rax\n movq %%xmm0, %%rbp\n xorq $0x1111, %%rbp\n or %%rbp, %%rax\n"
        "movq %%xmm15, %%rbp\n xorq $0xeeee, %%rbp\n or %%rbp, %%rax\n pop %%rbp\n"
        : "=a"(bad) : "0"(spins)
        : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "xmm0", "xmm15", "cc", "memory");
    return bad == 0;
}
#elif defined(__aarch64__)
static int registers_hold(long spins) {
    long bad = spins;
    __asm__ volatile(
        "mov x1, #0x1111\n mov x2, #0x2222\n mov x3, #0x3333\n mov x4, #0x4444\n mov x5, #0x5555\n mov x6, #0x6666\n"
        "mov x7, #0x7777\n mov x8, #0x8888\n mov x9, #0x9999\n mov x10, #0xaaaa\n mov x16, #0x1616\n mov x17, #0x1717\n"
        "mov x19, #0x1919\n mov x28, #0x2828\n mov x30, #0x3030\n fmov d0, x1\n fmov d31, x9\n"
        "1: subs %0, %0, #1\n b.ne 1b\n"
        "mov x11, #0x1111\n eor x1, x1, x11\n mov x11, #0x2222\n eor x2, x2, x11\n mov x11, #0x3333\n eor x3, x3, x11\n"
        "mov x11, #0x4444\n eor x4, x4, x11\n mov x11, #0x5555\n eor x5, x5, x11\n mov x11, #0x6666\n eor x6, x6, x11\n"
        "mov x11, #0x7777\n eor x7, x7, x11\n mov x11, #0x8888\n eor x8, x8, x11\n fmov x12, d31\n eor x12, x12, x9\n"
        "mov x11, #0x9999\n eor x9, x9, x11\n mov x11, #0xaaaa\n eor x10, x10, x11\n mov x11, #0x1616\n"
        "eor x16, x16, x11\n mov x11, #0x1717\n eor x17, x17, x11\n mov x11, #0x1919\n eor x19, x19, x11\n"
        "mov x11, #0x2828\n eor x28, x28, x11\n mov x11, #0x3030\n eor x30, x30, x11\n"
        "fmov x11, d0\n mov x13, #0x1111\n eor x11, x11, x13\n"
        "orr %0, x1, x2\n orr %0, %0, x3\n orr %0, %0, x4\n orr %0, %0, x5\n orr %0, %0, x6\n orr %0, %0, x7\n"
        "orr %0, %0, x8\n orr %0, %0, x9\n orr %0, %0, x10\n orr %0, %0, x11\n orr %0, %0, x12\n orr %0, %0, x16\n"
        "orr %0, %0, x17\n orr %0, %0, x19\n orr %0, %0, x28\n orr %0, %0, x30\n"
        : "+r"(bad) :
        : "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x16", "x17", "x19", "x28",
          "x30", "v0", "v31", "cc", "memory");
    return bad == 0;
}
#endif

static int spinning(const char *unused) {
    uint64_t sum = 1, steps = 0;
    int held = 1;
    ready();
    do {
        for (int i = 0; i < 1000000; i++, steps++) sum = scramble(sum);
        held &= registers_hold(2000000);
    } while (!input_ended());
    printf("%llu %llu %s\n", (unsigned long long)sum, (unsigned long long)steps, held ? "held" : "changed");
    return 0;
}

/* A thousand signals a second while a pipe is written and read back: "STEPS held" if nothing was ever odd. */
static int stormed(const char *unused) {
    struct itimerval tick = {{0, 1000}, {0, 1000}};
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    uint64_t sum = 1, got, steps = 0;
    int ends[2], odd = pipe(ends);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &tick, NULL);
    ready();
    do {
        n_signals = 0;
        for (int i = 0; i < 2000; i++, steps++) {
            sum = scramble(sum);
            odd |= write(ends[1], &sum, sizeof sum) != sizeof sum;
            odd |= read(ends[0], &got, sizeof got) != sizeof got;
            odd |= got != sum;
        }
        odd |= !registers_hold(100000);
    } while (!input_ended());
    printf("%llu %llu %s\n", (unsigned long long)sum, (unsigned long long)steps, odd ? "odd" : "held");
    return 0;
}

/* What becomes of SIGTRAP in a program that ignores, blocks or handles it. */
static int trapped(const char *how) {
    struct sigaction action = {.sa_handler = strcmp(how, "ignored") ? note : SIG_IGN}, after;
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTRAP);
    sigaction(SIGTRAP, &action, NULL);
    if (!strcmp(how, "blocked")) sigprocmask(SIG_BLOCK, &mask, NULL);
    ready();
    while (!input_ended()) registers_hold(100000);
    sigaction(SIGTRAP, NULL, &after);
    sigprocmask(SIG_BLOCK, NULL, &mask);
    printf("%s %d %d\n", after.sa_handler == action.sa_handler ? "kept" : "reset", sigismember(&mask, SIGTRAP), (int)n_signals);
    return 0;
}

#ifdef __aarch64__
#include <sys/auxv.h>
/* Fills scalable vectors and a predicate, spins, and counts the bytes that changed; in streaming mode if asked to. */
#define VECTORS_HOLD(before, after) \
    ".arch_extension sve\n .arch_extension sme\n" before \
    "ptrue p0.b\n index z0.b, #1, #3\n index z31.b, #7, #5\n" \
    "1: subs %0, %0, #1\n b.ne 1b\n" \
    "ptrue p3.b\n index z1.b, #1, #3\n cmpne p1.b, p3/z, z0.b, z1.b\n cntp %0, p3, p1.b\n" \
    "index z1.b, #7, #5\n cmpne p1.b, p3/z, z31.b, z1.b\n cntp x1, p3, p1.b\n orr %0, %0, x1\n" \
    "cntp x1, p3, p0.b\n cntb x2\n sub x1, x2, x1\n orr %0, %0, x1\n" after
#define EVERY_VECTOR \
    "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", \
    "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31"

static int scalable(const char *how) {
    int streaming = !strcmp(how, "streaming");
    if (streaming ? !(getauxval(AT_HWCAP2) >> 23 & 1) : !(getauxval(AT_HWCAP) >> 22 & 1)) return 77;
    long bad, any = 0, n = 0;
    ready();
    do {
        bad = 3000000;
        if (streaming) __asm__ volatile(VECTORS_HOLD("smstart sm\n", "smstop sm\n") : "+r"(bad) : : "x1", "x2", "cc", EVERY_VECTOR);
        else __asm__ volatile(VECTORS_HOLD("", "") : "+r"(bad) : : "x1", "x2", "cc", EVERY_VECTOR);
        any += bad != 0;
        n++;
    } while (!input_ended());
    printf("%ld of %ld changed\n", any, n);
    return 0;
}
#endif

#ifdef __x86_64__
#include <sys/rseq.h>
/* Spins inside a restartable sequence. Whatever takes the thread out of it must send it to the abort handler: once
 * SIGUSR1 was seen, the next abort ends the program. A forgotten sequence spins on for ever. */
static int in_sequence(const char *again) {
    struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
    if (!*again) {
        handle(SIGUSR1, 0);
        ready();
    }
    while (!n_signals)
        __asm__ volatile goto(
            ".pushsection __rseq_cs, \"aw\"\n .balign 32\n 3: .long 0, 0\n .quad 1f, 2f - 1f, 4f\n .popsection\n"
            "lea 3b(%%rip), %%rax\n movq %%rax, %0\n"
            "1: jmp 1b\n 2: nop\n"
            ".pushsection __rseq_failure, \"ax\"\n .byte 0x0f, 0xb9, 0x3d\n .long 0x53053053\n 4: jmp %l[aborted]\n .popsection\n"
            : : "m"(area->rseq_cs) : "rax", "memory" : aborted);
aborted:
    if (!n_signals) return in_sequence("again");
    puts("aborted");
    return 0;
}

/* Single-steps itself: a SIGTRAP after every instruction, counted. */
static int stepping(const char *unused) {
    handle(SIGTRAP, 0);
    ready();
    do {
        n_signals = 0;
        __asm__ volatile("pushfq\n orq $0x100, (%%rsp)\n popfq\n nop\n nop\n nop\n pushfq\n andq $~0x100, (%%rsp)\n popfq\n" ::: "memory", "cc");
        if (n_signals != 6) { printf("%d\n", (int)n_signals); return 1; }
    } while (!input_ended());
    puts("stepped");
    return 0;
}
#endif

/* --- unusual states */

static int blocked_read(void) {
    char byte;
    ready();
    errno = 0;
    long result = read(0, &byte, 1);
    char text[32];
    int length = snprintf(text, sizeof text, "%ld %d\n", result, errno);
    return write(1, text, length) != length;
}

static void *blocked_thread(void *unused) {
    exit(blocked_read());
}

static int dead_leader(const char *unused) {
    pthread_t thread;
    pthread_create(&thread, NULL, blocked_thread, NULL);
    pthread_exit(NULL);
}

static int filtered(const char *how) {
    if (!strcmp(how, "strict")) {
        ready();
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
        char byte;
        int right = read(0, &byte, 1) == 1 && write(1, "1 0\n", 4) == 4;
        syscall(SYS_exit, !right);
    }
    static const int allowed[] = {SYS_read, SYS_write, SYS_exit_group, SYS_restart_syscall};
    struct sock_filter code[16] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    int n = 1;
    for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog program = {n, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 97;
    if (!strcmp(how, "tempted")) {
        char byte;
        ready();
        if (read(0, &byte, 1) == 1) syscall(SYS_getppid);
        printf("got away with it\n");
        return 0;
    }
    return blocked_read();
}

static int dispatching(const char *unused) {
    static char selector;
    if (prctl(59 /* PR_SET_SYSCALL_USER_DISPATCH */, 1, 0, 0, &selector)) return 77;
    return blocked_read();
}

static int nobody(const char *unused) {
    if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)) return 97;
    prctl(PR_SET_DUMPABLE, 1);
    return blocked_read();
}

static int no_room(const char *unused) {
    int next = dup(0);
    close(next);
    struct rlimit limit = {next, next};
    if (setrlimit(RLIMIT_NOFILE, &limit)) return 97;
    return blocked_read();
}

static void *vforking_thread(void *unused) {
    pid_t child = vfork();
    if (!child) {
        struct pollfd input = {.fd = 0, .events = POLLIN};
        poll(&input, 1, -1);
        _exit(0);
    }
    return NULL;
}

/* As posix_spawn does it, but the child loads its program only when there is input. */
static int spawning(const char *program) {
    ready();
    pid_t child = vfork();
    if (!child) {
        struct pollfd input = {.fd = 0, .events = POLLIN};
        poll(&input, 1, -1);
        execl(program, program, "60", NULL);
        _exit(96);
    }
    waitpid(child, NULL, 0);
    puts("done");
    return 0;
}

static int vforking(const char *how) {
    pthread_t thread;
    if (!strcmp(how, "thread")) {
        pthread_create(&thread, NULL, vforking_thread, NULL);
        return blocked_read();
    }
    ready();
    vforking_thread(NULL);
    puts("done");
    return 0;
}

static int tracing(const char *pid) {
    if (ptrace(PTRACE_SEIZE, atoi(pid), 0, 0)) return 97;
    return blocked_read();
}

static void *short_lived(void *unused) { return NULL; }

static int churning(const char *unused) {
    long n = 0;
    ready();
    do {
        pthread_t threads[4];
        for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, short_lived, NULL);
        for (int i = 0; i < 4; i++, n++) pthread_join(threads[i], NULL);
    } while (!input_ended());
    printf("%ld threads\n", n);
    return 0;
}

static void *executing_thread(void *arguments) {
    execv("/proc/self/exe", arguments);
    exit(96);
}

/* Becomes itself again and again, from a second thread, until standard input has ended. */
static int executing(const char *count) {
    static char text[24];
    static char *arguments[] = {"patient", "executing", text, NULL};
    long n = atol(count);
    if (n == 0) ready();
    if (input_ended()) return printf("%ld times\n", n) < 0;
    snprintf(text, sizeof text, "%ld", n + 1);
    pthread_t thread;
    pthread_create(&thread, NULL, executing_thread, arguments);
    pthread_join(thread, NULL);
    return 95;
}

static const struct { const char *name; int (*run)(const char *); } modes[] = {
    {"timed", timed}, {"waiting", waiting}, {"suspended", suspended}, {"spinning", spinning}, {"stormed", stormed},
    {"trapped", trapped}, {"dead_leader", dead_leader}, {"filtered", filtered}, {"dispatching", dispatching},
    {"nobody", nobody}, {"no_room", no_room}, {"vforking", vforking}, {"tracing", tracing}, {"churning", churning},
    {"executing", executing}, {"spawning", spawning},
#ifdef __aarch64__
    {"scalable", scalable},
#endif
#ifdef __x86_64__
    {"in_sequence", in_sequence}, {"stepping", stepping},
#endif
};

int main(int argc, char **argv) {
    if (argc > 3) duration_ms = atol(argv[3]);
    for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++)
        if (argc > 1 && !strcmp(argv[1], modes[i].name)) return modes[i].run(argc > 2 ? argv[2] : "");
    return 94;
}
