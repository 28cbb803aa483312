/* The floor: what the same work costs in C, on the same memory and the same descriptors. */
#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

struct region { uint64_t start, end, categories; };
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof, returned;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct scan_arg)
#define WP_MATCHING 1
#define CHECK_WPASYNC 2
#define WRITTEN 2

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

/* Collect and re-arm what was written; returns nanoseconds and the number of regions. */
uint64_t floor_collect(int pagemap, uint64_t start, uint64_t end, struct region *vec, uint64_t capacity, int64_t *found)
{
	struct scan_arg arg = {
		.size = sizeof(arg), .flags = WP_MATCHING | CHECK_WPASYNC, .start = start, .end = end,
		.vec = (uint64_t)vec, .vec_len = capacity, .mask = WRITTEN, .returned = WRITTEN,
	};
	uint64_t before = now_ns();
	*found = ioctl(pagemap, PAGEMAP_SCAN, &arg);
	return now_ns() - before;
}

/* Store one byte at each offset. */
void floor_dirty(char *base, const uint64_t *offsets, uint64_t n, char value)
{
	for (uint64_t i = 0; i < n; i++)
		base[offsets[i]] = value;
}

/* Compare with a copy; returns nanoseconds. */
uint64_t floor_compare(const char *a, const char *b, uint64_t n, int *differs)
{
	uint64_t before = now_ns();
	*differs = memcmp(a, b, n) != 0;
	return now_ns() - before;
}
