/* SPDX-License-Identifier: MIT */
/*
 * Invariant: only files that were looked into are remembered, and only those in which there is no Python; what is remembered of a file is
 * true of these very contents, as far as inode, size and time of change tell. A file that cannot be examined is never remembered.
 */
#include "trace/finder_look.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/map64.h"
#include "target/maps.h"

struct file {
	uint64_t dev, inode, size, mtime_ns;
	uint64_t program;      /* it was the executable, of which more is read than of a library */
};

struct finder_look {
	struct map64 *without; /* hash -> struct file */
	uint64_t opened;
};

int finder_look_new(struct finder_look **ret_look)
{
	_cleanup_(finder_look_freep) struct finder_look *look = calloc(1, sizeof(*look));
	int r;

	if (!look)
		return -ENOMEM;
	r = map64_new(sizeof(struct file), &look->without);
	if (r < 0)
		return r;
	*ret_look = take_ptr(look);
	return 0;
}

void finder_look_free(struct finder_look *look)
{
	if (!look)
		return;
	map64_free(look->without);
	free(look);
}

uint64_t finder_look_opened(const struct finder_look *look)
{
	return look->opened;
}

size_t finder_look_files(const struct finder_look *look)
{
	return map64_count(look->without);
}

static uint64_t file_hash(const struct file *file)
{
	const uint64_t words[] = { file->dev, file->inode, file->size, file->mtime_ns, file->program };
	uint64_t hash = 0;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15ull;
		hash ^= hash >> 32;
	}
	return hash;
}

/* The file at path; false: it is not there (any more), cannot be opened, or is none that is looked into. */
static bool file_at(const char *path, struct file *ret_file)
{
	_cleanup_(closep) int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	*ret_file = (struct file){
		.dev = st.st_dev,
		.inode = st.st_ino,
		.size = (uint64_t)st.st_size,
		.mtime_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000ull + (uint64_t)st.st_mtim.tv_nsec,
	};
	return true;
}

/*
 * The file behind a mapping; false: it cannot be told. Device numbers of overlayfs and btrfs differ between maps and stat(2), so the
 * executable is known by what both links of /proc lead to; without the right to map_files only the executable can be told.
 */
static bool file_of_map(pid_t pid, const struct map *map, const struct file *exe, struct file *ret_file)
{
	char path[80];

	snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", (int)pid, (unsigned long long)map->start, (unsigned long long)map->end);
	if (!file_at(path, ret_file)) {
		if (errno == ENOENT || map->inode != exe->inode || map->dev != exe->dev)
			return false;
		*ret_file = *exe;
	}
	ret_file->program = ret_file->inode == exe->inode && ret_file->dev == exe->dev;
	return true;
}

static bool is_without(const struct finder_look *look, const struct file *file)
{
	const struct file *same = map64_get(look->without, file_hash(file));

	return same && !memcmp(same, file, sizeof(*same));
}

static void remember(struct finder_look *look, const struct file *file)
{
	struct file *slot;

	if (map64_count(look->without) >= FINDER_FILES_MAX)
		map64_clear(look->without);
	slot = map64_put(look->without, file_hash(file), NULL);
	if (slot)
		*slot = *file;
}

/* Has every executable mapping a file that is known to be without? With note, those that are not known become so. */
static bool all_without(struct finder_look *look, pid_t pid, const struct maps *maps, bool note)
{
	const struct map *last = NULL;
	struct file exe = { 0 }, file;
	char path[32];
	bool all = true;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	if (!file_at(path, &exe))
		return false;
	for (size_t i = 0; i < maps_count(maps) && (all || note); i++) {
		const struct map *map = maps_get(maps, i);
		bool known;

		if (!map->inode || !map->exec || (last && last->inode == map->inode && last->dev == map->dev))
			continue;
		last = map;
		known = file_of_map(pid, map, &exe, &file);
		if (known && note)
			remember(look, &file);
		else if (!known || !is_without(look, &file))
			all = false;
	}
	return all;
}

int finder_look_at(struct finder_look *look, pid_t pid, struct image **ret_image)
{
	_cleanup_(maps_freep) struct maps *maps = NULL;
	int r;

	r = maps_load(pid, &maps);
	if (r < 0)
		return r;
	if (!maps_count(maps) || all_without(look, pid, maps, false))
		return -ENOEXEC;
	look->opened++;
	r = image_open_python(pid, maps, ret_image, NULL);
	if (r == -ENOTSUP)
		r = -ENOEXEC;
	/* Afterwards: what is mapped still was so while it was looked into. */
	if (r == -ENOEXEC)
		all_without(look, pid, maps, true);
	return r;
}
