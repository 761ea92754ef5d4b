/* SPDX-License-Identifier: MIT */
/*
 * Which container a process lives in. There is no such thing in the kernel:
 * the name is read from the cgroup paths that the runtimes make, and where
 * they say nothing, a namespace or a root directory other than ours is told.
 *
 *   0::/system.slice/docker-<64 hex>.scope                      docker, podman (libpod-), containerd, cri-o
 *   0::/kubepods.slice/kubepods-burstable.slice/.../cri-containerd-<64 hex>.scope
 *   12:memory:/docker/<64 hex>     4:cpu:/lxc/name     0::/lxc.payload.name/system.slice/..
 *   0::/machine.slice/machine-name.scope                        systemd-nspawn
 *
 * The innermost match counts (docker in lxc). Limits: a runtime that uses none
 * of these names shows up by its namespaces only.
 */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "target/proc.h"
#include "target/procfile.h"

#define CGROUP_MAX 65536
#define HASH_SHOWN 12
#define NAME_MAX_SHOWN 64
/* The host's first mount namespace, from Linux 6.18 (MNT_NS_INIT_INO in include/uapi/linux/nsfs.h): for where PID 1 may not be looked at. */
#define HOST_MNT_NS 0xeffffff8u

struct part {
	const char *text;
	size_t len;
};

static bool starts(struct part part, const char *prefix)
{
	size_t len = strlen(prefix);

	return part.len > len && !memcmp(part.text, prefix, len);
}

static bool ends(struct part part, const char *suffix)
{
	size_t len = strlen(suffix);

	return part.len > len && !memcmp(part.text + part.len - len, suffix, len);
}

static struct part without(struct part part, size_t front, size_t back)
{
	return (struct part){ part.text + front, part.len - front - back };
}

static bool is_hash(struct part part)
{
	if (part.len != 32 && part.len != 64)
		return false;
	for (size_t i = 0; i < part.len; i++)
		if (!isxdigit((unsigned char)part.text[i]))
			return false;
	return true;
}

/* "docker-<hash>.scope", "<hash>", "crio-<hash>": the hash behind the last '-'. */
static bool hash_of(struct part part, struct part *ret)
{
	size_t at;

	if (ends(part, ".scope"))
		part = without(part, 0, 6);
	for (at = part.len; at > 0 && part.text[at - 1] != '-'; at--)
		;
	part = without(part, at, 0);
	if (!is_hash(part))
		return false;
	*ret = (struct part){ part.text, HASH_SHOWN };
	return true;
}

/* The name of a container when this component of a cgroup path gives one; before is the component before it. */
static bool name_of(struct part part, struct part before, struct part *ret)
{
	if (hash_of(part, ret))
		return true;
	if (starts(part, "lxc.payload."))
		*ret = without(part, 12, 0);
	else if (before.len == 3 && !memcmp(before.text, "lxc", 3))
		*ret = part;
	else if (starts(part, "machine-") && ends(part, ".scope") && part.len > 14)
		*ret = without(part, 8, 6);
	else
		return false;
	return ret->len > 0;
}

/* The innermost container of one line "N:controllers:/path". */
static bool name_of_line(const char *line, size_t len, struct part *ret)
{
	const char *path = memchr(line, '/', len), *end = line + len;
	struct part before = { "", 0 };
	bool found = false;

	while (path && path < end) {
		const char *next = memchr(path + 1, '/', (size_t)(end - path - 1));
		struct part part = { path + 1, (size_t)((next ? next : end) - path - 1) };

		if (part.len && name_of(part, before, ret))
			found = true;
		before = part;
		path = next;
	}
	return found;
}

int proc_container_parse(const char *text, size_t len, char **ret_name)
{
	struct part name = { NULL, 0 };

	if (len && memchr(text, '\0', len))
		return -EINVAL;
	while (len) {
		const char *newline = memchr(text, '\n', len);
		size_t line = newline ? (size_t)(newline - text) : len;

		if (name_of_line(text, line, &name))
			break;
		text += newline ? line + 1 : line;
		len -= newline ? line + 1 : line;
	}
	if (!name.text)
		return -ENOENT;
	*ret_name = strndup(name.text, name.len < NAME_MAX_SHOWN ? name.len : NAME_MAX_SHOWN);
	return *ret_name ? 0 : -ENOMEM;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

/*
 * Is what /proc/PID/<name> leads to other than what /proc/self/<name> and /proc/1/<name> do? 1 yes, 0 no, negative errno. PID 1 counts as
 * home, too: as a service with a mount namespace of our own we are the odd one.
 */
static int differs(pid_t pid, const char *name, struct stat *ret_theirs)
{
	struct stat ours, init;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/%s", name);
	if (stat(path, &ours) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	if (stat(path, ret_theirs) < 0)
		return procfile_errno(pid, -errno);
	if (is_same_file(&ours, ret_theirs))
		return 0;
	snprintf(path, sizeof(path), "/proc/1/%s", name);
	return stat(path, &init) < 0 || !is_same_file(&init, ret_theirs);
}

static int name_by_namespace(pid_t pid, char **ret_name)
{
	static const char *const kinds[] = { "pid", "mnt" };
	char path[32], name[48];
	struct stat st;
	int r;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		snprintf(path, sizeof(path), "ns/%s", kinds[i]);
		r = differs(pid, path, &st);
		if (r < 0)
			return r;
		if (r == 0 || (!strcmp(kinds[i], "mnt") && st.st_ino == HOST_MNT_NS))
			continue;
		snprintf(name, sizeof(name), "%s:[%llu]", kinds[i], (unsigned long long)st.st_ino);
		*ret_name = strdup(name);
		return *ret_name ? 0 : -ENOMEM;
	}
	return -ENOENT;
}

/* "root:/path" of a process under chroot(2). */
static int name_by_root(pid_t pid, char **ret_name)
{
	_cleanup_(freep) char *root = NULL;
	struct stat st;
	size_t size;
	char *name;
	int r;

	r = differs(pid, "root", &st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	r = procfile_link(pid, "root", &root);
	if (r < 0)
		return r;
	size = strlen(root) + sizeof("root:");
	name = malloc(size);
	if (!name)
		return -ENOMEM;
	snprintf(name, size, "root:%s", root);
	*ret_name = name;
	return 0;
}

static int name_by_cgroup(pid_t pid, char **ret_name)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	r = procfile_read(pid, "cgroup", CGROUP_MAX, &text, &len);
	return r < 0 ? r : proc_container_parse(text, len, ret_name);
}

int proc_container(pid_t pid, char **ret_name)
{
	_cleanup_(freep) char *ours = NULL;
	_cleanup_(freep) char *name = NULL;
	int r;

	r = name_by_cgroup(pid, &name);
	/* In the container that we are in ourselves: no other container. */
	if (r == 0 && name_by_cgroup(getpid(), &ours) == 0 && !strcmp(name, ours)) {
		free(take_ptr(name));
		r = -ENOENT;
	}
	if (r == -ENOENT)
		r = name_by_namespace(pid, &name);
	if (r == -ENOENT)
		r = name_by_root(pid, &name);
	/* A zombie and a kernel thread have no namespaces or root to look at: -ENOENT from stat(2). */
	if (r < 0 && r != -ENOENT)
		return r;
	*ret_name = take_ptr(name);
	return 0;
}
