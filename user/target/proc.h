/* SPDX-License-Identifier: MIT */
/* What /proc says of a process. Every function returns 0 or a negative errno; -ESRCH when the process is gone. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct proc_stat {
	pid_t pid, ppid;
	char state;            /* R S D T Z X ... as in proc(5) */
	uint64_t start_ticks;  /* field 22: start after boot, in clock ticks; with the pid it names a process for good */
	uint32_t num_threads;
	bool exiting;          /* the first thread has begun to end, and its memory may be gone; the state says so only later */
	char comm[64];
};

struct proc_memory {
	uint64_t rss_bytes, pss_bytes, anon_bytes, swap_bytes;  /* smaps_rollup: Rss, Pss, Anonymous, Swap */
};

int proc_stat_read(pid_t pid, struct proc_stat *ret_stat);
int proc_stat_parse(const char *text, size_t len, struct proc_stat *ret_stat);
/* The unit of start_ticks. */
uint64_t proc_tick_ns(void);
/* How long a process has lived that started then (struct proc_stat); what the machine slept is in it. */
uint64_t proc_age_ns(uint64_t start_ticks);
int proc_memory_read(pid_t pid, struct proc_memory *ret_memory);
/* What the kernel counts anyway (status): cheap, and no lock is held for long. Unknown fields are 0. */
struct proc_counters {
	uint64_t rss_bytes, anon_bytes, shmem_bytes, swap_bytes, highwater_bytes;
};
int proc_counters_read(pid_t pid, struct proc_counters *ret_counters);
/*
 * The same again and again, by a descriptor that belongs to this very process, whoever has the PID later (after an exec it tells of the new
 * program). -ESRCH: gone.
 */
int proc_counters_open(pid_t pid);
int proc_counters_again(int fd, struct proc_counters *ret_counters);
/* Processor time so far, all threads, nanoseconds; as of the last scheduler tick. */
int proc_cpu_read(pid_t pid, uint64_t *ret_ns);
/* RSS alone, from statm: cheap enough for every second. */
int proc_rss_read(pid_t pid, uint64_t *ret_bytes);
/* argv as a NULL-terminated array, owned by the caller (strv_free). Bounded: at most 4096 arguments, 1 MiB. */
int proc_cmdline_read(pid_t pid, char ***ret_argv);
/* Every process (not thread) of this PID namespace, ascending. */
int proc_list(pid_t **ret_pids, size_t *ret_count);
/* Direct children, ascending. */
int proc_children(pid_t pid, pid_t **ret_pids, size_t *ret_count);
/* A short name of the container the process lives in (docker/podman/kubernetes/lxc id of its cgroup, 12 hex digits when it is a
 * hash, or "pid:[inode]"/"mnt:[inode]" when it merely has a PID or mount namespace other than ours, "root:/path" for a root
 * directory other than ours). NULL when it has none, or the one we are in ourselves. Owned by the caller; untrusted. */
int proc_container(pid_t pid, char **ret_name);
/* The part of it that reads /proc/PID/cgroup. -ENOENT when no container is named there, -EINVAL for no text. */
int proc_container_parse(const char *text, size_t len, char **ret_name);
/* Do the two run the same program since the same exec: one forked the other, or a third both? Needs the right to trace them. */
int proc_same_program(pid_t pid, pid_t other, bool *ret_same);
/* The real uid of the process. */
int proc_uid(pid_t pid, uid_t *ret_uid);

void strv_free(char **strv);
