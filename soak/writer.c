/* The soak's target: threads that stamp pages with counters, and one that keeps changing the memory under them.
 *
 * Every store is preceded by an announcement in a log that the judge reads (shared memory that is not tracked):
 * per page, the number of the last store begun and of the last store finished. What changes the memory (drop,
 * move, protect) takes the page's lock, so that the log always tells the truth about each page.
 *
 * usage: writer LOG_FD AREA_PAGES THREADS SEED   (one byte on standard input starts it, its end stops it)
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define PAGE 4096ul
#define HUGE (2ul << 20)

struct page_log { _Atomic uint64_t begun, finished; };
struct log {
	_Atomic uint64_t ready, area, spare, writes, events, stop;
	_Atomic uint64_t forks, corrupt;
	struct page_log page[];
};

static struct log *log_;
static char *area;
static uint64_t n_pages;
static pthread_mutex_t *lock; /* one per page */

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13; *state ^= *state >> 7; *state ^= *state << 17;
	return *state;
}

static void stamp(uint64_t page, uint64_t where)
{
	struct page_log *entry = &log_->page[page];
	uint64_t number = atomic_fetch_add(&entry->begun, 1) + 1;
	volatile uint64_t *word = (uint64_t *)(area + page * PAGE + (where % (PAGE / 8)) * 8);
	*word = number;
	if (*word != number)
		atomic_fetch_add(&log_->corrupt, 1);
	atomic_store(&entry->finished, number);
	atomic_fetch_add(&log_->writes, 1);
}

static void *write_pages(void *seed)
{
	uint64_t state = (uint64_t)seed;
	while (!atomic_load(&log_->stop)) {
		uint64_t r = next_random(&state), page = r % n_pages;
		/* Half of the stores go to a few hot pages, where writer and collect meet most often. */
		if (r >> 63)
			page %= 16;
		pthread_mutex_lock(&lock[page]);
		stamp(page, r >> 20);
		pthread_mutex_unlock(&lock[page]);
	}
	return NULL;
}

static void lock_range(uint64_t first, uint64_t count)
{
	for (uint64_t p = first; p < first + count; p++)
		pthread_mutex_lock(&lock[p]);
}

static void unlock_range(uint64_t first, uint64_t count)
{
	for (uint64_t p = first; p < first + count; p++)
		pthread_mutex_unlock(&lock[p]);
}

/* A drop changes the bytes: it counts as a store to each page. */
static void drop(uint64_t first, uint64_t count)
{
	lock_range(first, count);
	for (uint64_t p = first; p < first + count; p++)
		atomic_fetch_add(&log_->page[p].begun, 1);
	madvise(area + first * PAGE, count * PAGE, MADV_DONTNEED);
	for (uint64_t p = first; p < first + count; p++)
		atomic_store(&log_->page[p].finished, atomic_load(&log_->page[p].begun));
	unlock_range(first, count);
}

static void protect(uint64_t first, uint64_t count)
{
	lock_range(first, count);
	mprotect(area + first * PAGE, count * PAGE, PROT_READ);
	usleep(50);
	mprotect(area + first * PAGE, count * PAGE, PROT_READ | PROT_WRITE);
	unlock_range(first, count);
}

/* A child that writes to its own copies: the parent's pages must not count as written. */
static void fork_child(uint64_t page)
{
	pid_t child = fork();
	if (child == 0) {
		*(volatile char *)(area + page * PAGE) = 1;
		_exit(0);
	}
	if (child > 0) {
		waitpid(child, NULL, 0);
		atomic_fetch_add(&log_->forks, 1);
	}
}

static void *change_memory(void *seed)
{
	uint64_t state = (uint64_t)seed;
	char *spare = (char *)atomic_load(&log_->spare), *low, *to;
	while (!atomic_load(&log_->stop)) {
		uint64_t r = next_random(&state), first = (r >> 8) % (n_pages - 16), huge = (r >> 8) % (n_pages * PAGE / HUGE);
		switch (r % 8) {
		case 0: drop(first, 1 + (r >> 40) % 8); break;
		case 1: drop(huge * (HUGE / PAGE), HUGE / PAGE); break;
		case 2: protect(first, 1 + (r >> 40) % 16); break;
		case 3: fork_child(first); break;
		case 4: madvise(area + huge * HUGE, HUGE, MADV_COLLAPSE); break;
		case 5: madvise(area + first * PAGE, 16 * PAGE, r >> 41 & 1 ? MADV_NOHUGEPAGE : MADV_HUGEPAGE); break;
		case 6: madvise(area + first * PAGE, 16 * PAGE, MADV_POPULATE_READ); break;
		case 7: /* a mapping of its own that is moved about: nobody else may map there */
			low = (char *)atomic_load(&log_->spare);
			to = spare == low ? low + 64 * PAGE : low;
			spare = mremap(spare, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
			spare[r % (64 * PAGE)] = 1;
			break;
		}
		atomic_fetch_add(&log_->events, 1);
		usleep(100);
	}
	return NULL;
}

/* Obeys a pipe: one byte starts the threads, its end stops them. */
int run(int control, int log_fd, uint64_t pages, uint64_t n_threads, uint64_t seed)
{
	n_pages = pages;
	log_ = mmap(NULL, sizeof(*log_) + n_pages * sizeof(struct page_log), PROT_READ | PROT_WRITE, MAP_SHARED, log_fd, 0);
	lock = calloc(n_pages, sizeof(*lock));
	char *room = mmap(NULL, n_pages * PAGE + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *spare = mmap(NULL, 128 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (log_ == MAP_FAILED || !lock || room == MAP_FAILED || spare == MAP_FAILED)
		return 1;
	area = (char *)(((uintptr_t)room + HUGE - 1) & -HUGE);
	madvise(area, n_pages * PAGE / 2, MADV_HUGEPAGE);
	memset(area, 1, n_pages * PAGE / 4 * 3); /* the last quarter starts unpopulated */
	for (uint64_t p = 0; p < n_pages; p++)
		pthread_mutex_init(&lock[p], NULL);
	atomic_store(&log_->spare, (uintptr_t)spare);
	atomic_store(&log_->area, (uintptr_t)area);
	atomic_store(&log_->ready, 1);
	char byte;
	if (read(control, &byte, 1) != 1)
		return 1;
	pthread_t threads[n_threads + 1];
	for (uint64_t t = 0; t < n_threads; t++)
		pthread_create(&threads[t], NULL, write_pages, (void *)(seed * 1000 + t + 1));
	pthread_create(&threads[n_threads], NULL, change_memory, (void *)(seed * 1000 + 999));
	while (read(control, &byte, 1) > 0)
		;
	atomic_store(&log_->stop, 1);
	for (uint64_t t = 0; t <= n_threads; t++)
		pthread_join(threads[t], NULL);
	/* What was stored last is what must be there: tracking changes no byte. */
	int wrong = atomic_load(&log_->corrupt) != 0;
	munmap(room, n_pages * PAGE + HUGE);
	munmap(spare, 128 * PAGE);
	free(lock);
	return wrong ? 3 : 0;
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	return run(0, atoi(argv[1]), strtoull(argv[2], NULL, 0), strtoull(argv[3], NULL, 0), strtoull(argv[4], NULL, 0));
}
