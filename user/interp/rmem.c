/* SPDX-License-Identifier: MIT */
/*
 * Reading a target's memory, live or recorded. The only place that does.
 * Invariant: a read fills the whole buffer or fails; the buffer of a failed read
 * holds nothing of meaning. Limits: not for use by two threads at once (the
 * counters are plain).
 *
 * /proc/PID/mem it is, not process_vm_readv(): that pins the pages it reads, and since Linux 5.19 (mm/gup.c, gup_must_unshare()) pinning
 * a page that a forked process shares with its relatives makes a copy of it. A prefork server's worker would grow by all that is
 * looked at. (Measured: a child with 128 MiB of its parent's has 256 MiB after it was read so.) A large read is a third slower, one of many
 * small pieces takes twice as long.
 */
#include "interp/rmem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define GATHER_BATCH 1024   /* pieces a system call: the kernel's limit */
#define PAGE 4096u

struct rmem {
	pid_t pid;                          /* 0: recorded */
	int fd;                             /* its mem; -1: process_vm_readv() must do */
	const struct rmem_region *regions;
	size_t n_regions;
	uint64_t bytes, reads;
};

int rmem_open_pid(pid_t pid, struct rmem **ret_mem)
{
	_cleanup_(rmem_freep) struct rmem *mem = NULL;
	char path[40];

	if (pid <= 0)
		return -ESRCH;
	mem = calloc(1, sizeof(*mem));
	if (!mem)
		return -ENOMEM;
	mem->pid = pid;
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	mem->fd = open(path, O_RDONLY | O_CLOEXEC);
	*ret_mem = take_ptr(mem);
	return 0;
}

int rmem_open_regions(const struct rmem_region *regions, size_t count, struct rmem **ret_mem)
{
	struct rmem *mem = calloc(1, sizeof(*mem));

	if (!mem)
		return -ENOMEM;
	mem->fd = -1;
	mem->regions = regions;
	mem->n_regions = count;
	*ret_mem = mem;
	return 0;
}

void rmem_free(struct rmem *mem)
{
	if (mem && mem->fd >= 0)
		close(mem->fd);
	free(mem);
}

bool rmem_is_bound(const struct rmem *mem)
{
	return mem->fd >= 0 || !mem->pid;
}

static int read_region(const struct rmem *mem, raddr_t addr, void *buf, size_t size)
{
	for (size_t i = 0; i < mem->n_regions; i++) {
		const struct rmem_region *r = &mem->regions[i];
		uint64_t offset = addr.v - r->start;

		if (addr.v < r->start || offset > r->size || size > r->size - offset)
			continue;
		memcpy(buf, r->data + offset, size);
		return 0;
	}
	return -EFAULT;
}

/* The pieces one after another into buf. The file belongs to the address space of the open: after an exec or exit nothing is read. */
static int read_file(const struct rmem *mem, uint8_t *buf, const struct iovec *remote, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		ssize_t got = pread(mem->fd, buf, remote[i].iov_len, (off_t)(uintptr_t)remote[i].iov_base);

		if (got < 0)
			return errno == EIO || errno == EINVAL ? -EFAULT : -errno;
		if (got == 0)
			return -ESRCH;
		if ((size_t)got != remote[i].iov_len)
			return -EFAULT;
		buf += got;
	}
	return 0;
}

static int read_process(const struct rmem *mem, const struct iovec *local, const struct iovec *remote, size_t n, size_t size)
{
	ssize_t got;

	if (mem->fd >= 0)
		return read_file(mem, local->iov_base, remote, n);
	got = process_vm_readv(mem->pid, local, 1, remote, n, 0);
	if (got < 0)
		return errno == EIO || errno == EINVAL ? -EFAULT : -errno;
	return (size_t)got == size ? 0 : -EFAULT;
}

int rmem_read(struct rmem *mem, raddr_t addr, void *buf, size_t size)
{
	struct iovec local = { buf, size };
	struct iovec remote = { (void *)(uintptr_t)addr.v, size };
	int r;

	if (size == 0)
		return 0;
	if (addr.v + size < addr.v || addr.v < PAGE)
		return -EFAULT;
	r = mem->pid ? read_process(mem, &local, &remote, 1, size) : read_region(mem, addr, buf, size);
	mem->reads++;
	if (r == 0)
		mem->bytes += size;
	return r;
}

/* Pieces that follow each other in memory are one to the kernel: it is three times faster so. */
static size_t join_pieces(const raddr_t *addrs, size_t count, size_t size, struct iovec *ret_remote)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		if (i > 0 && addrs[i].v == addrs[i - 1].v + size)
			ret_remote[n - 1].iov_len += size;
		else
			ret_remote[n++] = (struct iovec){ (void *)(uintptr_t)addrs[i].v, size };
	}
	return n;
}

int rmem_gather(struct rmem *mem, const raddr_t *addrs, size_t count, size_t size, void *buf)
{
	struct iovec remote[GATHER_BATCH];
	uint8_t *out = buf;

	while (count > 0) {
		size_t n = count < GATHER_BATCH ? count : GATHER_BATCH;
		struct iovec local = { out, n * size };
		int r = 0;

		if (mem->pid)
			r = read_process(mem, &local, remote, join_pieces(addrs, n, size, remote), n * size);
		else
			for (size_t i = 0; i < n && r == 0; i++)
				r = read_region(mem, addrs[i], out + i * size, size);
		mem->reads++;
		if (r < 0)
			return r;
		mem->bytes += n * size;
		out += n * size;
		addrs += n;
		count -= n;
	}
	return 0;
}

/* Halves what failed until the bad pieces stand alone. */
int rmem_gather_each(struct rmem *mem, const raddr_t *addrs, size_t count, size_t size, void *buf, bool *ok)
{
	size_t half = count / 2;
	int r = rmem_gather(mem, addrs, count, size, buf);

	if (r != -EFAULT || count == 1) {
		memset(ok, r == 0, count * sizeof(*ok));
		return r == -EFAULT ? 0 : r;
	}
	r = rmem_gather_each(mem, addrs, half, size, buf, ok);
	if (r == 0)
		r = rmem_gather_each(mem, addrs + half, count - half, size, (uint8_t *)buf + half * size, ok + half);
	return r;
}

int rmem_u8(struct rmem *mem, raddr_t addr, uint8_t *ret)
{
	uint8_t v;
	int r = rmem_read(mem, addr, &v, sizeof(v));

	if (r == 0)
		*ret = v;
	return r;
}

int rmem_u32(struct rmem *mem, raddr_t addr, uint32_t *ret)
{
	uint32_t v;
	int r = rmem_read(mem, addr, &v, sizeof(v));

	if (r == 0)
		*ret = v;
	return r;
}

int rmem_u64(struct rmem *mem, raddr_t addr, uint64_t *ret)
{
	uint64_t v;
	int r = rmem_read(mem, addr, &v, sizeof(v));

	if (r == 0)
		*ret = v;
	return r;
}

int rmem_ptr(struct rmem *mem, raddr_t addr, raddr_t *ret)
{
	return rmem_u64(mem, addr, &ret->v);
}

/* Reads up to the page's end at a time, so that a string at the end of a mapping is no fault. */
int rmem_cstr(struct rmem *mem, raddr_t addr, char *buf, size_t size)
{
	size_t done = 0;

	if (size == 0)
		return -EINVAL;
	while (done < size - 1) {
		size_t page_left = PAGE - (size_t)((addr.v + done) % PAGE);
		size_t n = size - 1 - done < page_left ? size - 1 - done : page_left;
		int r;

		/* recorded regions have any alignment: there, byte by byte */
		if (!mem->pid)
			n = 1;
		r = rmem_read(mem, raddr_add(addr, (int64_t)done), buf + done, n);
		if (r < 0)
			return r;
		if (memchr(buf + done, '\0', n))
			return 0;
		done += n;
	}
	buf[size - 1] = '\0';
	return 0;
}

size_t rmem_own_bytes(void)
{
	return sizeof(struct rmem);
}

uint64_t rmem_bytes_read(const struct rmem *mem)
{
	return mem->bytes;
}

uint64_t rmem_reads(const struct rmem *mem)
{
	return mem->reads;
}
