/* SPDX-License-Identifier: MIT */
#include "trace/probes.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "leaksnoop.skel.h"
#include "target/maps.h"
#include "trace/kernel.h"

#define PROBES_MAX 64

/* Entries and returns: a program, and with multi-uprobe links a link, for each. */
enum { ENTRY, RETURN, SIDES };

struct side {
	size_t count;
	uint64_t offsets[PROBES_MAX], cookies[PROBES_MAX];
	int multi;                          /* a multi-uprobe link; -1: none */
	struct bpf_link *links[PROBES_MAX]; /* else one perf link a probe */
	size_t n_links;
};

struct probes {
	const struct image *image;
	struct side sides[SIDES];
};

int probes_new(const struct image *image, struct probes **ret_probes)
{
	struct probes *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->image = image;
	p->sides[ENTRY].multi = p->sides[RETURN].multi = -1;
	*ret_probes = p;
	return 0;
}

void probes_free(struct probes *p)
{
	if (!p)
		return;
	probes_detach(p);
	free(p);
}

int probes_add(struct probes *p, raddr_t addr, bool on_return, uint64_t cookie, struct err *err)
{
	struct side *side = &p->sides[on_return ? RETURN : ENTRY];
	int r;

	if (side->count == PROBES_MAX)
		return err_set(err, -ENOSPC, "too many probes");
	r = image_file_offset(p->image, addr, &side->offsets[side->count]);
	if (r)
		return err_set(err, r, "no place in the file for a probe at 0x%" PRIx64, addr.v);
	side->cookies[side->count++] = cookie;
	return 0;
}

static int attach_perf(struct side *side, struct bpf_program *prog, bool on_return, const char *path, pid_t pid)
{
	for (size_t i = 0; i < side->count; i++) {
		LIBBPF_OPTS(bpf_uprobe_opts, opts, .retprobe = on_return, .bpf_cookie = side->cookies[i]);
		struct bpf_link *link = bpf_program__attach_uprobe_opts(prog, pid, path, side->offsets[i], &opts);

		if (!link)
			return -errno;
		side->links[side->n_links++] = link;
	}
	return 0;
}

static int attach_multi(struct side *side, struct bpf_program *prog, bool on_return, const char *path, pid_t pid)
{
	side->multi = kernel_uprobe_multi(bpf_program__fd(prog), path, side->offsets, side->cookies, (uint32_t)side->count, on_return, pid);
	return side->multi < 0 ? side->multi : 0;
}

static int attach_sides(struct probes *p, struct session *session, const char *path, pid_t pid)
{
	struct leaksnoop_bpf *bpf = session_bpf(session);
	struct bpf_program *const progs[SIDES] = { bpf->progs.leaksnoop_entry, bpf->progs.leaksnoop_return };

	/* Returns first: a call whose entry is seen has its return seen. */
	for (int i = SIDES; i-- > 0;) {
		struct side *side = &p->sides[i];
		int r = 0;

		if (side->count)
			r = session_has_multi(session) ? attach_multi(side, progs[i], i == RETURN, path, pid)
						       : attach_perf(side, progs[i], i == RETURN, path, pid);
		if (r) {
			probes_detach(p);
			return r;
		}
	}
	return 0;
}

int probes_attach(struct probes *p, struct session *session, pid_t pid, struct err *err)
{
	int r = attach_sides(p, session, image_open_path(p->image), pid);

	if (r) {
		err_set(err, r, "cannot attach probes to %s: %s", image_path(p->image), strerror(-r));
		err_hint(err, "'leaksnoop doctor' says what this kernel offers for uprobes");
	}
	return r;
}

int probes_attach_self(struct session *session, const void *insn, uint64_t cookie, struct probes **ret_probes)
{
	_cleanup_(probes_freep) struct probes *p = NULL;
	_cleanup_(maps_freep) struct maps *maps = NULL;
	uint64_t addr = (uint64_t)(uintptr_t)insn;
	const struct map *map;
	int r = maps_load(getpid(), &maps);

	if (!r)
		r = probes_new(NULL, &p);
	if (r)
		return r;
	map = maps_at(maps, addr);
	if (!map)
		return -ENOENT;
	p->sides[ENTRY].offsets[0] = addr - map->start + map->offset;
	p->sides[ENTRY].cookies[p->sides[ENTRY].count++] = cookie;
	r = attach_sides(p, session, "/proc/self/exe", getpid());
	if (!r)
		*ret_probes = take_ptr(p);
	return r;
}

void probes_detach(struct probes *p)
{
	for (int i = 0; i < SIDES; i++) {
		struct side *side = &p->sides[i];

		closep(&side->multi);
		side->multi = -1;
		while (side->n_links)
			bpf_link__destroy(side->links[--side->n_links]);
	}
}
