/* SPDX-License-Identifier: MIT */
#include "track/codes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../bpf/control.h"

/* One look reads no more; a program with more code objects than that running has them looked at in turn. */
#define CODES_AT_ONCE 4096

struct known {
	uint64_t addr, linetable;
	int firstlineno;
};

struct codes {
	const struct python *python;
	uint32_t co_linetable, co_firstlineno;
	struct known known[CODES_AT_ONCE];
	raddr_t addrs[CODES_AT_ONCE];
	uint64_t linetables[CODES_AT_ONCE];
	int firstlines[CODES_AT_ONCE];
	bool ok[CODES_AT_ONCE], line_ok[CODES_AT_ONCE];
	size_t count, skip, seen;
};

int codes_new(const struct python *python, struct codes **ret_codes)
{
	_cleanup_(codes_freep) struct codes *c = calloc(1, sizeof(*c));
	struct walk_cfg cfg;
	int r;

	if (!c)
		return -ENOMEM;
	r = python_walk_cfg(python, &cfg, NULL);
	if (r)
		return r;
	c->python = python;
	c->co_linetable = cfg.co_linetable;
	c->co_firstlineno = cfg.co_firstlineno;
	*ret_codes = take_ptr(c);
	return 0;
}

void codes_free(struct codes *c)
{
	free(c);
}

static void note(void *ctx, uint64_t addr, uint64_t linetable, int firstlineno)
{
	struct codes *c = ctx;

	if (c->seen++ < c->skip || c->count == CODES_AT_ONCE)
		return;
	c->known[c->count++] = (struct known){ addr, linetable, firstlineno };
}

static int read_pieces(struct codes *c, uint32_t offset, size_t size, void *buf, bool *ok)
{
	for (size_t i = 0; i < c->count; i++)
		c->addrs[i] = RADDR(c->known[i].addr + offset);
	return rmem_gather_each(python_rmem(c->python), c->addrs, c->count, size, buf, ok);
}

int codes_check(struct codes *c, uint32_t target, struct stacks *stacks, struct session *session)
{
	int gone = 0, r;

	c->count = c->seen = 0;
	stacks_visit_codes(stacks, target, note, c);
	c->skip = c->count == CODES_AT_ONCE ? c->skip + c->count : 0;
	if (!c->count)
		return 0;
	r = read_pieces(c, c->co_linetable, sizeof(c->linetables[0]), c->linetables, c->ok);
	if (!r)
		r = read_pieces(c, c->co_firstlineno, sizeof(c->firstlines[0]), c->firstlines, c->line_ok);
	if (r)
		return r;
	for (size_t i = 0; i < c->count; i++) {
		const struct known *k = &c->known[i];

		if (c->ok[i] && c->line_ok[i] && c->linetables[i] == k->linetable && c->firstlines[i] == k->firstlineno)
			continue;
		stacks_on_code_free(stacks, target, k->addr);
		session_forget_code(session, target, k->addr);
		gone++;
	}
	return gone;
}
