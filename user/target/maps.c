/* SPDX-License-Identifier: MIT */
/*
 * /proc/PID/maps, parsed. Invariants: mappings are sorted, not empty and do
 * not overlap; every path is a NUL-terminated string inside the one copy of
 * the text that struct maps owns.
 *
 * Limits: the kernel writes the file a page at a time, so a target that maps
 * and unmaps meanwhile may appear with a mapping twice or torn into two
 * versions: of overlapping lines the first in address order stays. A file
 * whose own name ends in " (deleted)" cannot be told from a deleted one.
 */
#include "target/maps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "target/procfile.h"

#define MAPS_TEXT_MAX (256u << 20)
#define DELETED " (deleted)"

struct maps {
	size_t count, room;
	struct map *map;
	char *text;
};

void maps_free(struct maps *maps)
{
	if (!maps)
		return;
	free(maps->map);
	free(maps->text);
	free(maps);
}

size_t maps_count(const struct maps *maps)
{
	return maps->count;
}

const struct map *maps_get(const struct maps *maps, size_t index)
{
	return index < maps->count ? &maps->map[index] : NULL;
}

const struct map *maps_at(const struct maps *maps, uint64_t addr)
{
	size_t low = 0, high = maps->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (addr >= maps->map[mid].end)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == maps->count || addr < maps->map[low].start)
		return NULL;
	return &maps->map[low];
}

/* One number of at most 64 bits, its digits followed by the character after. Moves *p behind that. */
static int number(const char **p, const char *end, unsigned int base, char after, uint64_t *ret)
{
	const char *s = *p;
	uint64_t v = 0;

	for (; s < end && *s != after; s++) {
		unsigned int digit;

		if (*s >= '0' && *s <= '9')
			digit = (unsigned int)(*s - '0');
		else if (*s >= 'a' && *s <= 'f')
			digit = (unsigned int)(*s - 'a') + 10;
		else
			return -EINVAL;
		if (digit >= base || v > (UINT64_MAX - digit) / base)
			return -EINVAL;
		v = v * base + digit;
	}
	if (s == *p || s == end)
		return -EINVAL;
	*p = s + 1;
	*ret = v;
	return 0;
}

static int flag(char c, char yes, char no, bool *ret)
{
	if (c != yes && c != no)
		return -EINVAL;
	*ret = c == yes;
	return 0;
}

/* "r-xp " */
static int permissions(const char **p, const char *end, struct map *map)
{
	const char *s = *p;

	if (end - s < 5 || s[4] != ' ')
		return -EINVAL;
	if (flag(s[0], 'r', '-', &map->read) < 0 || flag(s[1], 'w', '-', &map->write) < 0 ||
	    flag(s[2], 'x', '-', &map->exec) < 0 || flag(s[3], 's', 'p', &map->shared) < 0)
		return -EINVAL;
	*p = s + 5;
	return 0;
}

/* The kernel writes a newline in a name as \012 and nothing else in a special way. */
static void unescape(char *path)
{
	char *to = path;

	for (const char *from = path; *from; to++) {
		if (!strncmp(from, "\\012", 4)) {
			*to = '\n';
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

static void set_path(struct map *map, char *path, size_t len)
{
	const size_t mark = sizeof(DELETED) - 1;

	if (len > mark && !memcmp(path + len - mark, DELETED, mark)) {
		path[len - mark] = '\0';
		map->deleted = true;
	}
	unescape(path);
	map->path = path;
}

/*
 * "55d0c0a00000-55d0c0a2f000 r--p 00000000 fd:00 1835  <spaces>  /usr/bin/x": the line without its newline, *end is writable.
 */
static int parse_line(char *line, char *end, struct map *map)
{
	uint64_t major, minor;
	const char *p = line;
	char *path;

	*map = (struct map){ .path = "" };
	if (number(&p, end, 16, '-', &map->start) < 0 || number(&p, end, 16, ' ', &map->end) < 0 ||
	    permissions(&p, end, map) < 0 || number(&p, end, 16, ' ', &map->offset) < 0 ||
	    number(&p, end, 16, ':', &major) < 0 || number(&p, end, 16, ' ', &minor) < 0)
		return -EINVAL;
	if (major > UINT32_MAX || minor > UINT32_MAX || map->start >= map->end)
		return -EINVAL;
	map->dev = makedev((unsigned int)major, (unsigned int)minor);
	*end = '\0';
	/* The inode is followed by a space even where no path comes after. */
	if (number(&p, end, 10, ' ', &map->inode) < 0)
		return -EINVAL;
	path = line + (p - line);
	while (*path == ' ')
		path++;
	set_path(map, path, (size_t)(end - path));
	return 0;
}

static int append(struct maps *maps, const struct map *map)
{
	if (maps->count == maps->room) {
		size_t room = maps->room ? maps->room * 2 : 64;
		struct map *more = reallocarray(maps->map, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		maps->map = more;
		maps->room = room;
	}
	maps->map[maps->count++] = *map;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct map *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->end < y->end ? -1 : x->end > y->end;
}

static void sort_and_disentangle(struct maps *maps)
{
	size_t kept = 0;

	if (maps->count)
		qsort(maps->map, maps->count, sizeof(*maps->map), compare);
	for (size_t i = 0; i < maps->count; i++)
		if (!kept || maps->map[i].start >= maps->map[kept - 1].end)
			maps->map[kept++] = maps->map[i];
	maps->count = kept;
}

int maps_parse(const char *text, size_t len, struct maps **ret_maps)
{
	_cleanup_(maps_freep) struct maps *maps = NULL;
	struct map map;
	int r;

	if (len > MAPS_TEXT_MAX || (len && memchr(text, '\0', len)))
		return -EINVAL;
	maps = calloc(1, sizeof(*maps));
	if (!maps)
		return -ENOMEM;
	maps->text = malloc(len + 1);
	if (!maps->text)
		return -ENOMEM;
	if (len)
		memcpy(maps->text, text, len);
	maps->text[len] = '\0';
	for (char *line = maps->text, *end; (end = strchr(line, '\n')); line = end + 1) {
		r = parse_line(line, end, &map);
		if (r < 0)
			return r;
		r = append(maps, &map);
		if (r < 0)
			return r;
	}
	sort_and_disentangle(maps);
	*ret_maps = take_ptr(maps);
	return 0;
}

int maps_load(pid_t pid, struct maps **ret_maps)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	r = procfile_read(pid, "maps", MAPS_TEXT_MAX, &text, &len);
	if (r < 0)
		return r;
	return maps_parse(text, len, ret_maps);
}
