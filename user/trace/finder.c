/* SPDX-License-Identifier: MIT */
/*
 * What the kernel tells becomes found and lost. Invariant: a process of the table is one of the kernel's map of known ones, too, or there is a
 * notice under way that tells why not, or notices were lost and all will be listed anew. Both tables are bounded, and nothing here grows with
 * the number of starts.
 *
 * Starts are not told one by one: user space reads the map of young processes when the oldest of them has settled. Limits: the PIDs of the
 * BPF programs are those of the initial PID namespace, so leaksnoop must run in it.
 */
#include "trace/finder.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "bpf/finder.h"
#include "finder.skel.h"
#include "trace/finder_impl.h"
#include "trace/libbpf.h"

#define INITIAL_PID_NAMESPACE 0xEFFFFFFCu   /* PROC_PID_INIT_INO, include/linux/proc_ns.h */
#define MAPPING_BYTES (8u << 20)            /* of all processors together */
#define MAPPING_PAGES_MIN 8u                /* of each: some 250 records */
#define MAPPING_PAGES_MAX 64u
#define YOUNG_MAX 16384u
#define RING_BYTES 65536u
#define BATCH 1024u
#define SCAN_PAUSE_MAX_NS 250000000ull
#define IDLE_NS 1000000000ull

static uint64_t now_real(void)
{
	return clock_mono_ns(&clock_real);
}

static uint64_t missed(const struct finder *f)
{
	return __atomic_load_n(&f->bpf->bss->missed, __ATOMIC_RELAXED) + finder_mappings_lost(f->mappings);
}

static uint64_t starts(const struct finder *f)
{
	return __atomic_load_n(&f->bpf->bss->starts, __ATOMIC_RELAXED);
}

static void on_exit_notice(struct finder *f, const struct finder_notice *n)
{
	int signal = n->code & 0x7f;

	if (!signal)
		finder_lose(f, (pid_t)n->pid, PROCESS_EXITED, (n->code >> 8) & 0xff);
	else
		finder_lose(f, (pid_t)n->pid, n->oom && signal == 9 ? PROCESS_OOM : PROCESS_KILLED, signal);
}

static int on_notice(void *ctx, void *data, size_t size)
{
	const struct finder_notice *n = data;
	const struct finder_known *known;
	struct finder *f = ctx;

	if (size < sizeof(*n))
		return 0;
	f->scan_wanted |= n->kind == FINDER_STARTED;
	known = map64_get(f->known, n->pid);
	/* Of one that was made known and not believed in, or of another process of that PID. */
	if (!known || known->start_ticks != n->start_ns / proc_tick_ns())
		return 0;
	/* It may have been found again already, before its notice was read. */
	if (n->kind == FINDER_EXECED && n->since_ns > known->since_ns)
		finder_lose(f, (pid_t)n->pid, PROCESS_EXECED, 0);
	else if (n->kind == FINDER_EXITED)
		on_exit_notice(f, n);
	return 0;
}

static void on_mapped(void *ctx, pid_t pid)
{
	struct finder *f = ctx;

	if (!map64_get(f->known, (uint64_t)pid))
		finder_add_young(f, pid, now_real());
}

static int load(struct finder *f, const struct finder_options *o, struct err *err)
{
	int r = 0;

	libbpf_listen();
	f->bpf = finder_bpf__open();
	if (!f->bpf)
		return err_set(err, -errno, "cannot open the BPF object: %s", strerror(errno));
	f->bpf->rodata->wake_on_start = !f->settle_ns;
	r |= bpf_map__set_max_entries(f->bpf->maps.known, (uint32_t)f->max * 2);
	r |= bpf_map__set_max_entries(f->bpf->maps.young, (uint32_t)f->young_max);
	r |= bpf_map__set_max_entries(f->bpf->maps.notices, o->ring_bytes ?: RING_BYTES);
	if (!r)
		r = finder_bpf__load(f->bpf);
	return r ? libbpf_explain(err, r) : 0;
}

static int watch_fd(struct finder *f, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* A power of two. */
static uint32_t mapping_pages(void)
{
	uint32_t pages = MAPPING_PAGES_MAX;
	int cpus = libbpf_num_possible_cpus();

	while (pages > MAPPING_PAGES_MIN && cpus > 0 && pages * (uint64_t)sysconf(_SC_PAGESIZE) * (uint64_t)cpus > MAPPING_BYTES)
		pages /= 2;
	return pages;
}

static int open_rings(struct finder *f, struct err *err)
{
	int r;

	f->ring = ring_buffer__new(bpf_map__fd(f->bpf->maps.notices), on_notice, f, NULL);
	if (!f->ring)
		return err_set(err, -errno, "cannot map the BPF ring: %s", strerror(errno));
	r = finder_mappings_new(bpf_map__fd(f->bpf->maps.mappings), mapping_pages(), !f->settle_ns, on_mapped, f, &f->mappings);
	if (r) {
		err_set(err, r, "cannot follow executable mappings: %s", strerror(-r));
		err_hint(err, "perf_event_open() must be allowed: CAP_PERFMON, and CAP_IPC_LOCK for its buffers");
		return r;
	}
	f->epoll = epoll_create1(EPOLL_CLOEXEC);
	r = f->epoll < 0 ? -errno : watch_fd(f, ring_buffer__epoll_fd(f->ring));
	if (!r)
		r = watch_fd(f, finder_mappings_fd(f->mappings));
	return r ? err_set(err, r, "cannot make a descriptor to wait for: %s", strerror(-r)) : 0;
}

static int make_tables(struct finder *f, const struct finder_options *o)
{
	int r = finder_filter_new(o, &f->filter);

	if (!r)
		r = finder_look_new(&f->look);
	if (!r)
		r = map64_new(sizeof(struct finder_known), &f->known);
	f->young = calloc(f->young_max, sizeof(*f->young));
	f->young_pids = calloc(BATCH, sizeof(*f->young_pids));
	f->young_since = calloc(BATCH, sizeof(*f->young_since));
	return r ?: f->young && f->young_pids && f->young_since ? 0 : -ENOMEM;
}

static int check_namespace(struct err *err)
{
	struct stat st;

	if (stat("/proc/self/ns/pid", &st) == 0 && st.st_ino == INITIAL_PID_NAMESPACE)
		return 0;
	err_set(err, -ENOTSUP, "leaksnoop runs in a PID namespace of its own, where the kernel's notices name no process");
	err_hint(err, "run it on the host, or its container with the host's PID namespace (--pid=host)");
	return -ENOTSUP;
}

int finder_new(const struct finder_options *options, const struct finder_events *events, struct finder **ret_finder, struct err *err)
{
	_cleanup_(finder_freep) struct finder *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return err_set(err, -ENOMEM, "out of memory");
	f->epoll = -1;
	f->events = *events;
	f->settle_ns = options->settle_ns;
	f->max = options->max;
	f->young_max = options->young_max ?: YOUNG_MAX;
	if (!f->max || f->max > 1u << 20)
		return err_set(err, -EINVAL, "%zu processes cannot be watched", f->max);
	r = check_namespace(err);
	if (r)
		return r;
	r = make_tables(f, options);
	if (r)
		return err_set(err, r, "cannot keep the filters of processes: %s", strerror(-r));
	r = load(f, options, err);
	if (!r)
		r = open_rings(f, err);
	if (r)
		return r;
	r = finder_bpf__attach(f->bpf);
	if (r)
		return libbpf_explain(err, r);
	*ret_finder = take_ptr(f);
	return 0;
}

void finder_free(struct finder *finder)
{
	if (!finder)
		return;
	closep(&finder->epoll);
	finder_mappings_free(finder->mappings);
	if (finder->ring)
		ring_buffer__free(finder->ring);
	finder_bpf__destroy(finder->bpf);
	finder_filter_free(finder->filter);
	finder_look_free(finder->look);
	map64_free(finder->known);
	free(finder->young);
	free(finder->young_pids);
	free(finder->young_since);
	free(finder->list);
	free(finder);
}

int finder_start(struct finder *f, struct err *err)
{
	int r = finder_list_begin(f);

	if (r)
		return err_set(err, r, "cannot list processes: %s", strerror(-r));
	finder_list_go_on(f, now_real(), true);
	return 0;
}

/* All that are young now into f->young: how many. Those that come meanwhile may be left out. */
static ssize_t read_young(struct finder *f)
{
	int fd = bpf_map__fd(f->bpf->maps.young), r = 0;
	uint64_t position;
	size_t n = 0;

	for (bool first = true; !r; first = false) {
		uint32_t count = BATCH;

		r = bpf_map_lookup_batch(fd, first ? NULL : &position, &position, f->young_pids, f->young_since, &count, NULL);
		if (r && r != -ENOENT)
			return r;
		for (uint32_t i = 0; i < count && n < f->young_max; i++)
			f->young[n++] = (struct finder_young){ f->young_pids[i], f->young_since[i] };
	}
	return (ssize_t)n;
}

static int older_first(const void *a, const void *b)
{
	const struct finder_young *x = a, *y = b;

	return x->since_ns != y->since_ns ? (x->since_ns < y->since_ns ? -1 : 1) : (x->pid > y->pid) - (x->pid < y->pid);
}

/* When the map of young ones is to be read again: most of them will not get old, so it is not for each of them. */
static uint64_t due_after(const struct finder *f, uint64_t oldest_ns, uint64_t now_ns)
{
	uint64_t due = oldest_ns + f->settle_ns, pause = f->settle_ns / 8;

	if (due <= now_ns)
		return now_ns;
	pause = pause < SCAN_PAUSE_MAX_NS ? pause : SCAN_PAUSE_MAX_NS;
	return due > now_ns + pause ? due : now_ns + pause;
}

/* Looks at those that have settled, for some milliseconds. The oldest first: parents before their children. */
static int scan(struct finder *f, uint64_t now_ns)
{
	uint64_t begin = now_real();
	ssize_t n, at = 0;

	f->scan_wanted = false;
	f->starts_seen = starts(f);
	n = read_young(f);
	if (n < 0)
		return (int)n;
	if (n > 1)
		qsort(f->young, (size_t)n, sizeof(*f->young), older_first);
	for (; at < n && f->young[at].since_ns + f->settle_ns <= now_ns && now_real() - begin < FINDER_SLICE_NS; at++)
		finder_check(f, (pid_t)f->young[at].pid, f->young[at].since_ns);
	f->young_left = (size_t)(n - at);
	f->young_due_ns = due_after(f, at < n ? f->young[at].since_ns : now_ns, now_ns);
	return 0;
}

int finder_step(struct finder *f, uint64_t now_ns)
{
	int r = ring_buffer__consume(f->ring);

	f->stepped_ns = now_ns;
	if (r >= 0)
		r = finder_mappings_read(f->mappings);
	if (r < 0)
		return r;
	r = 0;
	if (missed(f) != f->missed_seen) {
		f->missed_seen = missed(f);
		f->list_wanted = true;
	}
	if (f->list_wanted && !f->list && now_ns >= f->list_after_ns)
		r = finder_list_begin(f);
	if (!r && f->list)
		finder_list_go_on(f, now_ns, false);
	if (!r && (f->scan_wanted || (now_ns >= f->young_due_ns && (f->young_left || starts(f) != f->starts_seen))))
		r = scan(f, now_ns);
	return r;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t finder_next_ns(const struct finder *f)
{
	uint64_t next = f->stepped_ns + (f->settle_ns ?: IDLE_NS);

	if (f->list || f->scan_wanted)
		return f->stepped_ns;
	if (f->list_wanted)
		next = earlier(next, f->list_after_ns);
	if (f->young_left)
		next = earlier(next, f->young_due_ns);
	return next;
}

int finder_fd(const struct finder *finder)
{
	return finder->epoll;
}

struct finder_totals finder_totals(const struct finder *f)
{
	return (struct finder_totals){
		.starts = starts(f),
		.looked_at = f->looked_at,
		.missed = missed(f),
		.turned_away = f->turned_away,
	};
}
