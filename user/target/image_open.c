/* SPDX-License-Identifier: MIT */
/*
 * Which file is the Python of a process, and how to open that very file.
 *
 * The link /proc/PID/map_files/<range> leads to the mapped inode itself: right
 * when the file was deleted or replaced and whatever mount namespace the
 * target lives in. It needs CAP_SYS_ADMIN; without it /proc/PID/exe,
 * /proc/PID/root + path and, for a target under chroot(2), whose paths the
 * kernel prints as seen from our root, the path itself are tried, and believed
 * only if device and inode are those of the mapping (on overlayfs and btrfs
 * stat(2) says another device than maps does: only map_files serves there).
 *
 * A mapped file may be a device or a FIFO, which must not be opened for
 * reading: only regular files are, by way of an O_PATH descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "target/image_private.h"
#include "target/proc.h"
#include "target/procfile.h"

#ifndef O_PATH
#define O_PATH 010000000   /* x86-64; <fcntl.h> shows it only under _GNU_SOURCE */
#endif

#define FILES_MAX 2048     /* different mapped files looked into */
#define PAGE 4096ull

/* What is asked of a process while its images are looked for. */
struct finder {
	pid_t pid;
	const struct maps *maps;
	char *exe;             /* path of the executable as in maps, without " (deleted)"; NULL unknown */
	char *root;            /* its root directory as we see it; NULL unknown */
	int refused;           /* -EACCES or -EPERM from the last file that could not be opened; 0 none */
	bool without_runtime;  /* an interpreter without _PyRuntime was seen */
};

static void finder_done(struct finder *f)
{
	free(f->exe);
	free(f->root);
}

static void finder_init(struct finder *f, pid_t pid, const struct maps *maps)
{
	static const char deleted[] = " (deleted)";
	size_t len, mark = sizeof(deleted) - 1;

	*f = (struct finder){ .pid = pid, .maps = maps };
	if (procfile_link(pid, "root", &f->root) < 0)
		f->root = NULL;
	if (procfile_link(pid, "exe", &f->exe) < 0) {
		f->exe = NULL;
		return;
	}
	len = strlen(f->exe);
	if (len > mark && !strcmp(f->exe + len - mark, deleted))
		f->exe[len - mark] = '\0';
}

/* Opens a regular file for reading. With map not NULL it must be the file of that mapping: -ESTALE if not. */
static int open_regular(const char *path, const struct map *map)
{
	_cleanup_(closep) int fd = -1;
	char again[32];
	struct stat st;
	int r;

	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOEXEC;
	if (map && (st.st_ino != map->inode || st.st_dev != map->dev))
		return -ESTALE;
	snprintf(again, sizeof(again), "/proc/self/fd/%d", fd);
	r = open(again, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return r < 0 ? -errno : r;
}

static int open_by_path(const struct finder *f, const struct map *map)
{
	char path[PATH_MAX + 64];
	int fd, n;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)f->pid);
	fd = open_regular(path, map);
	if (fd >= 0 || map->path[0] != '/')
		return fd;
	n = snprintf(path, sizeof(path), "/proc/%d/root%s", (int)f->pid, map->path);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	fd = open_regular(path, map);
	return fd >= 0 ? fd : open_regular(map->path, map);
}

/* The file behind a mapping: a descriptor or a negative errno. */
static int open_map(struct finder *f, const struct map *map)
{
	char path[80];
	int fd, r;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", (int)f->pid, (unsigned long long)map->start,
		 (unsigned long long)map->end);
	fd = open_regular(path, NULL);
	if (fd >= 0)
		return fd;
	r = fd;
	fd = open_by_path(f, map);
	if (fd < 0 && (r == -EACCES || r == -EPERM))
		f->refused = r;
	return fd >= 0 ? fd : r;
}

static bool same_file(const struct map *a, const struct map *b)
{
	return a->inode == b->inode && a->dev == b->dev;
}

/* Does map show a part of segment? The bias that follows. */
static bool bias_from(const struct map *map, const struct segment *segment, uint64_t *ret_bias)
{
	uint64_t first = segment->offset & ~(PAGE - 1);

	if (map->exec != segment->exec || map->offset < first || map->offset >= segment->offset + segment->filesz)
		return false;
	*ret_bias = map->start - (segment->vaddr - segment->offset + map->offset);
	return true;
}

static bool bias_fits(const struct image *image, uint64_t bias, uint64_t addr)
{
	if (!image->pie && bias)
		return false;
	if (bias & (PAGE - 1))
		return false;
	if (!addr)
		return true;
	for (size_t i = 0; i < image->n_segments; i++) {
		const struct segment *s = &image->segment[i];

		/* Whole pages are mapped, so the edges of a segment belong to it. */
		if (addr - bias + PAGE > s->vaddr && addr - bias < s->vaddr + s->memsz + PAGE)
			return true;
	}
	return false;
}

/*
 * Where the file of map lies, from its executable mappings first (other tools map files too, but not executable), then from any:
 * text moved to huge pages has lost its file. With addr the copy that holds addr is meant (a library may be loaded twice).
 */
static int find_bias(struct image *image, const struct maps *maps, const struct map *map, uint64_t addr)
{
	uint64_t bias;

	for (int exec = 1; exec >= 0; exec--)
		for (size_t i = 0; i < maps_count(maps); i++) {
			const struct map *m = maps_get(maps, i);

			if (!same_file(m, map) || m->exec != (exec == 1))
				continue;
			for (size_t k = 0; k < image->n_segments; k++)
				if (bias_from(m, &image->segment[k], &bias) && bias_fits(image, bias, addr)) {
					image->bias = bias;
					return 0;
				}
		}
	return -ENOEXEC;
}

/* A path as the target sees it: without the directory it was chroot(2)ed to. */
static const char *target_path(const struct finder *f, const char *path)
{
	size_t len = f->root ? strlen(f->root) : 0;

	if (len > 1 && !strncmp(path, f->root, len) && path[len] == '/')
		return path + len;
	return path;
}

static int image_from_map(struct finder *f, const struct map *map, uint64_t addr, struct image **ret_image)
{
	_cleanup_(image_freep) struct image *image = NULL;
	int fd, r;

	fd = open_map(f, map);
	if (fd < 0)
		return fd;
	r = image_from_fd(fd, target_path(f, map->path), &image);
	if (r < 0)
		return r;
	image->deleted = map->deleted;
	r = find_bias(image, f->maps, map, addr);
	if (r < 0)
		return r;
	*ret_image = take_ptr(image);
	return 0;
}

/* Where to look: in this order. */
enum rank { RANK_EXE, RANK_LIBPYTHON, RANK_OTHER, RANK_COUNT };

static enum rank map_rank(const struct finder *f, const struct map *map)
{
	const char *base = strrchr(map->path, '/');

	if (f->exe && !strcmp(map->path, f->exe))
		return RANK_EXE;
	return base && !strncmp(base, "/libpython", 10) ? RANK_LIBPYTHON : RANK_OTHER;
}

/* Does this image define the runtime? .symtab only if asked: reading that of every library would take long. */
static bool defines_runtime(struct finder *f, const struct image *image, bool dynamic_only)
{
	struct image_symbol symbol;
	bool found;

	if (dynamic_only)
		found = image_dynamic_symbol(image, "_PyRuntime", &symbol) == 0;
	else
		found = image_symbol(image, "_PyRuntime", &symbol) == 0;
	if (!found && image_dynamic_symbol(image, "Py_Initialize", &symbol) == 0)
		f->without_runtime = true;
	return found;
}

/* Every mapped file of one rank, once. -ENOEXEC if none has it. */
static int find_ranked(struct finder *f, enum rank rank, struct image **ret_image)
{
	_cleanup_(freep) const struct map **seen = calloc(FILES_MAX, sizeof(*seen));
	size_t n = 0, k;

	if (!seen)
		return -ENOMEM;
	for (size_t i = 0; i < maps_count(f->maps) && n < FILES_MAX; i++) {
		const struct map *map = maps_get(f->maps, i);
		_cleanup_(image_freep) struct image *image = NULL;

		if (!map->inode || map_rank(f, map) != rank || (!map->exec && rank != RANK_EXE))
			continue;
		for (k = n; k > 0 && !same_file(seen[k - 1], map); k--)
			;
		if (k > 0)
			continue;
		seen[n++] = map;
		if (image_from_map(f, map, 0, &image) < 0 || !defines_runtime(f, image, rank == RANK_OTHER))
			continue;
		*ret_image = take_ptr(image);
		return 0;
	}
	return -ENOEXEC;
}

/* No mappings at all, or no such process. */
static int say_empty(pid_t pid, struct err *err)
{
	struct proc_stat stat;
	int r = proc_stat_read(pid, &stat);

	if (r < 0) {
		err_set(err, r, "process %d: %s", (int)pid, r == -ESRCH ? "no such process" : strerror(-r));
		err_hint(err, "'leaksnoop ps' lists the Python processes");
		return r;
	}
	if (stat.state == 'Z' || stat.state == 'X') {
		err_set(err, -ESRCH, "process %d (%s) has ended and waits for its parent %d (zombie)", (int)pid, stat.comm,
			(int)stat.ppid);
		err_hint(err, "a process can only be traced while it runs");
		return -ESRCH;
	}
	err_set(err, -ENOEXEC, "process %d (%s) has no memory of its own: it is a kernel thread or about to end", (int)pid,
		stat.comm);
	err_hint(err, "'leaksnoop ps' lists the Python processes");
	return -ENOEXEC;
}

static int say_not_python(const struct finder *f, struct err *err)
{
	struct proc_stat stat;

	if (proc_stat_read(f->pid, &stat) < 0)
		return say_empty(f->pid, err);
	if (f->refused) {
		err_set(err, f->refused, "process %d (%s): no permission to open its program", (int)f->pid, stat.comm);
		err_hint(err, "run as root");
		return f->refused;
	}
	if (f->without_runtime) {
		err_set(err, -ENOTSUP, "process %d (%s) runs a Python older than 3.7, or one that hides _PyRuntime", (int)f->pid,
			stat.comm);
		err_hint(err, "CPython 3.8 and later can be traced");
		return -ENOTSUP;
	}
	err_set(err, -ENOEXEC, "process %d (%s) is not a Python: no file mapped by it defines _PyRuntime", (int)f->pid, stat.comm);
	err_hint(err, "'leaksnoop ps' lists the Python processes; a launcher may have started one as its child");
	return -ENOEXEC;
}

int image_open_python(pid_t pid, const struct maps *maps, struct image **ret_image, struct err *err)
{
	_cleanup_(finder_done) struct finder f;
	int r;

	finder_init(&f, pid, maps);
	if (!maps_count(maps))
		return say_empty(pid, err);
	for (enum rank rank = RANK_EXE; rank < RANK_COUNT; rank++) {
		r = find_ranked(&f, rank, ret_image);
		if (r == 0)
			return 0;
		if (r == -ENOMEM)
			return err_set(err, r, "process %d: out of memory", (int)pid);
	}
	return say_not_python(&f, err);
}

int image_open_at(pid_t pid, const struct maps *maps, uint64_t addr, struct image **ret_image, struct err *err)
{
	_cleanup_(finder_done) struct finder f;
	const struct map *map = maps_at(maps, addr);
	int r;

	finder_init(&f, pid, maps);
	if (!map || !map->inode)
		return err_set(err, -ENOENT, "process %d: no file is mapped at %#llx", (int)pid, (unsigned long long)addr);
	r = image_from_map(&f, map, addr, ret_image);
	if (r < 0) {
		err_set(err, r, "process %d: cannot read %s mapped at %#llx: %s", (int)pid, map->path,
			(unsigned long long)addr, strerror(-r));
		if (r == -EACCES || r == -EPERM)
			err_hint(err, "run as root");
	}
	return r;
}

int image_open_fd(int fd, const char *name, struct image **ret_image, struct err *err)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3), r;

	if (copy < 0)
		return err_set(err, -errno, "%s: %s", name, strerror(errno));
	r = image_from_fd(copy, name, ret_image);
	if (r < 0)
		err_set(err, r, "%s: %s", name, r == -ENOEXEC ? "not an x86-64 ELF program or library" : strerror(-r));
	return r;
}
