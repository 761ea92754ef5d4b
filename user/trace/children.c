/* SPDX-License-Identifier: MIT */
#include "trace/children.h"

static void restore(struct arming *const arming[WINDOW_GROUP_COUNT], pid_t child)
{
	for (int g = 0; g < WINDOW_GROUP_COUNT; g++)
		if (arming[g])
			arming_disarm_child(arming[g], child);
}

static void restore_oldest(struct children *c, struct arming *const arming[WINDOW_GROUP_COUNT])
{
	restore(arming, c->child[c->first].pid);
	c->first = (c->first + 1) % CHILDREN_MAX;
	c->count--;
}

void children_add(struct children *c, struct arming *const arming[WINDOW_GROUP_COUNT], pid_t child, uint64_t now_ns)
{
	size_t last;

	restore(arming, child);
	if (c->count == CHILDREN_MAX)
		restore_oldest(c, arming);
	last = (c->first + c->count++) % CHILDREN_MAX;
	c->child[last].pid = child;
	c->child[last].forked_ns = now_ns;
}

void children_settle(struct children *c, struct arming *const arming[WINDOW_GROUP_COUNT], uint64_t now_ns)
{
	while (c->count && now_ns >= c->child[c->first].forked_ns + CHILDREN_SETTLE_NS)
		restore_oldest(c, arming);
}
