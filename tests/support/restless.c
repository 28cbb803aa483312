/* A program that never leaves its mappings alone: restless SEED MILLISECONDS PAUSE_US. In a few slots of 16 pages it maps, unmaps, moves,
 * swaps, drops, forbids and allows, and stamps pages with a counter. It stops when its time is over ("settled"), stamps some pages of
 * each slot that is left for every byte of input, says so ("stamped"), and ends with its input. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 12, PAGES = 16, STAMPS = 3 };
#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define BYTES (PAGES * PAGE)
static char *const arena = (char *)0x20000000000, *const spare = (char *)0x21000000000;
static int mapped[SLOTS];
static unsigned seed;
static uint64_t counter;

static char *slot(int i) { return arena + i * BYTES; }
static int below(int n) { return rand_r(&seed) % n; }

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void map(int i) {
    if (mmap(slot(i), BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != slot(i)) _exit(95);
    mapped[i] = 1;
}

static void unmap(int i) {
    munmap(slot(i), BYTES);
    mapped[i] = 0;
}

static void stamp(int i) {
    for (int n = 0; n < STAMPS; n++) *(volatile uint64_t *)(slot(i) + below(PAGES) * PAGE) = ++counter;
}

static int moved(char *from, char *to) {
    return mremap(from, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED;
}

static void forbid_for(long us, char *start, size_t n_bytes, int access) {
    mprotect(start, n_bytes, access);
    if (below(2)) usleep(us);
    mprotect(start, n_bytes, PROT_READ | PROT_WRITE);
}

static void act(long us) {
    int i = below(SLOTS), j = below(SLOTS);
    switch (below(8)) {
    case 0: map(i); break; /* perhaps anew, in its own place */
    case 1: unmap(i); break;
    case 2: if (!mapped[i]) map(i); stamp(i); break;
    case 3: if (mapped[i]) madvise(slot(i) + below(8) * PAGE, 8 * PAGE, MADV_DONTNEED); break;
    case 4:
        if (!mapped[i] || i == j) break;
        stamp(i);
        /* Memory that is watched in part cannot move as a whole, and is left anywhere. */
        if (moved(slot(i), slot(j))) mapped[j] = 1; else unmap(j);
        unmap(i);
        break;
    case 5: if (mapped[i]) { stamp(i); forbid_for(us, slot(i), BYTES, PROT_READ); } break;
    case 6: if (mapped[i]) { forbid_for(us, slot(i) + 4 * PAGE, 4 * PAGE, PROT_NONE); stamp(i); } break;
    case 7:
        if (!mapped[i] || !mapped[j] || i == j) break;
        if (!moved(slot(i), spare) || !moved(slot(j), slot(i)) || !moved(spare, slot(j))) {
            munmap(spare, BYTES);
            unmap(i);
            unmap(j);
        }
    }
    if (us && !below(4)) usleep(below(us));
}

int main(int argc, char **argv) {
    if (argc != 4) return 94;
    seed = atoi(argv[1]);
    puts("ready");
    fflush(stdout);
    getchar();
    for (double end = now_ms() + atof(argv[2]); now_ms() < end;) act(atol(argv[3]));
    puts("settled");
    fflush(stdout);
    while (getchar() != EOF) {
        for (int i = 0; i < SLOTS; i++) if (mapped[i]) stamp(i);
        puts("stamped");
        fflush(stdout);
    }
    return 0;
}
