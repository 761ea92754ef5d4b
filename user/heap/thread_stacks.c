/* SPDX-License-Identifier: MIT */
/*
 * pthread_create() puts the thread's descriptor at the upper end of its stack.
 * It begins with the thread control block, whose first and third word are its
 * own address (x86-64 psABI: %fs:0; glibc: %fs:16, pthread_self()). Further in, at
 * places that differ between releases (nptl/descr.h), stand
 *
 *     list: next, prev      the ring of all threads' descriptors
 *     stackblock, stackblock_size, guardsize
 *
 * which are known by what must hold of them: neighbours in a ring point back,
 * and the descriptor lies at the end of its stack. So one thread leads to all. The
 * first ones are those that Python knows, and what lies at the end of mappings
 * behind a guard (glibc 2.42 has guards that no mapping shows).
 * Limits: threads on stacks that the program made itself; another libc's descriptors.
 */
#include "heap/thread_stacks.h"

#include <errno.h>
#include <string.h>

#include "base/map64.h"

#define PAGE RESIDENCY_PAGE
#define SEARCH_PAGES 16u           /* below the end: static thread-local storage lies above the descriptor */
#define TCB_ALIGN 64u
#define DESCRIPTOR 0x980u          /* bytes of it that are read; sizeof is 0x900 or a little more */
#define LINKS_FROM 0x200u
#define TLS_MAX (4ull << 20)       /* between descriptor and the end of the stack */
#define USER_END (1ull << 47)
#define THREADS_MAX 65536u
#define PYTHON_THREADS_MAX 4096u

struct search {
	struct rmem *mem;
	struct map64 *seen;        /* descriptors */
	uint64_t *queue;
	size_t head, tail;
	stack_fn fn;
	void *ctx;
};

static bool is_tcb(const uint8_t *bytes, uint64_t at)
{
	uint64_t words[3];

	memcpy(words, bytes, sizeof(words));
	return words[0] == at && words[2] == at;
}

static int enqueue(struct search *s, uint64_t tcb)
{
	bool fresh;

	if (tcb % TCB_ALIGN || tcb < PAGE || tcb >= USER_END || s->tail == THREADS_MAX)
		return 0;
	if (!map64_put(s->seen, tcb, &fresh))
		return -ENOMEM;
	if (fresh)
		s->queue[s->tail++] = tcb;
	return 0;
}

static bool is_stack(const uint64_t w[3], uint64_t tcb)
{
	return w[0] && w[0] % PAGE == 0 && w[1] % PAGE == 0 && w[1] && w[1] < USER_END - w[0] && w[0] < tcb && tcb < w[0] + w[1] &&
	       w[0] + w[1] - tcb < TLS_MAX && w[2] % PAGE == 0 && w[2] < w[1];
}

/* Are the words at offset of the descriptor links whose neighbours point back? */
static bool is_ring(struct search *s, uint64_t at, const uint64_t links[2])
{
	uint64_t back[2];

	if (links[0] % 8 || links[1] % 8 || links[0] < PAGE || links[1] < PAGE || links[0] >= USER_END || links[1] >= USER_END)
		return false;
	return rmem_u64(s->mem, RADDR(links[0] + 8), &back[0]) == 0 && rmem_u64(s->mem, RADDR(links[1]), &back[1]) == 0 &&
	       back[0] == at && back[1] == at;
}

static int look_at_thread(struct search *s, uint64_t tcb)
{
	uint8_t bytes[DESCRIPTOR];
	size_t size = sizeof(bytes);
	uint64_t words[3];
	int r = rmem_read(s->mem, RADDR(tcb), bytes, size);

	/* it ends where its stack does */
	if (r == -EFAULT) {
		size = (size_t)(PAGE - tcb % PAGE);
		size = size < sizeof(bytes) ? size : sizeof(bytes);
		r = size < sizeof(words) ? -EFAULT : rmem_read(s->mem, RADDR(tcb), bytes, size);
	}
	if (r < 0 || !is_tcb(bytes, tcb))
		return r == -ESRCH || r == -EPERM ? r : 0;
	for (size_t at = LINKS_FROM; at + sizeof(words) <= size && r == 0; at += 8) {
		memcpy(words, bytes + at, sizeof(words));
		if (is_stack(words, tcb)) {
			r = s->fn(s->ctx, words[0], words[0] + words[1]);
			break;
		}
		/* the ring's head lies elsewhere, and is no descriptor; an empty ring points to itself */
		if (words[0] == tcb + at || !is_ring(s, tcb + at, words))
			continue;
		r = enqueue(s, words[0] - at);
		r = r ?: enqueue(s, words[1] - at);
	}
	return r;
}

static int search_page(struct search *s, uint64_t at, bool *ret_found)
{
	uint8_t page[PAGE];
	int r = rmem_read(s->mem, RADDR(at), page, sizeof(page));

	if (r < 0)
		return r == -EFAULT ? 0 : r;
	for (uint64_t offset = 0; offset < PAGE && r == 0; offset += TCB_ALIGN) {
		if (!is_tcb(page + offset, at + offset))
			continue;
		*ret_found = true;
		r = enqueue(s, at + offset);
	}
	return r;
}

/* The upper ends of mappings with a guard below. */
static int search_guarded(struct search *s, const struct maps *maps, struct residency *pages)
{
	for (size_t i = 1; i < maps_count(maps); i++) {
		const struct map *map = maps_get(maps, i), *guard = maps_get(maps, i - 1);
		uint64_t at = map->end;
		bool found = false;
		int r = 0;

		if (map->inode || !map->read || !map->write || map->shared || guard->inode || guard->read || guard->write ||
		    guard->end != map->start)
			continue;
		for (unsigned n = 0; n < SEARCH_PAGES && at > map->start && r >= 0 && !found; n++) {
			at -= PAGE;
			r = residency_at(pages, at);
			if (r > 0)
				r = search_page(s, at, &found);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int search(struct search *s, const struct python *python, const struct maps *maps, struct residency *pages)
{
	_cleanup_(freep) uint64_t *threads = calloc(PYTHON_THREADS_MAX, sizeof(*threads));
	ssize_t n;
	int r = threads ? 0 : -ENOMEM;

	n = r ? r : python_thread_pointers(python, threads, PYTHON_THREADS_MAX);
	for (ssize_t i = 0; i < n && r == 0; i++)
		r = enqueue(s, threads[i]);
	if (r == 0 && n != -ESRCH && n != -EPERM)
		r = search_guarded(s, maps, pages);
	while (r == 0 && s->head < s->tail)
		r = look_at_thread(s, s->queue[s->head++]);
	return r;
}

int thread_stacks_visit(const struct python *python, const struct maps *maps, struct residency *pages, stack_fn fn, void *ctx)
{
	_cleanup_(map64_freep) struct map64 *seen = NULL;
	_cleanup_(freep) uint64_t *queue = calloc(THREADS_MAX, sizeof(*queue));
	struct search s = { .mem = python_rmem(python), .queue = queue, .fn = fn, .ctx = ctx };
	int r = queue ? map64_new(0, &seen) : -ENOMEM;

	s.seen = seen;
	return r ? r : search(&s, python, maps, pages);
}
