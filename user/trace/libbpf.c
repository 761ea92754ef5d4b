/* SPDX-License-Identifier: MIT */
#include "trace/libbpf.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* libbpf's messages, kept for the error report: the last warning is the reason. */
static char libbpf_said[512];

__attribute__((format(printf, 2, 0)))
static int libbpf_hear(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	if (level == LIBBPF_WARN)
		vsnprintf(libbpf_said, sizeof(libbpf_said), fmt, ap);
	return 0;
}

void libbpf_listen(void)
{
	libbpf_said[0] = '\0';
	libbpf_set_print(libbpf_hear);
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
}

int libbpf_explain(struct err *err, int r)
{
	if (r == -EPERM) {
		err_set(err, r, "no permission to load BPF programs");
		err_hint(err, "run as root (or with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE)");
		return r;
	}
	err_set(err, r, "cannot load the BPF programs: %s (%s)", strerror(-r), strtok(libbpf_said, "\n") ?: "no reason given");
	err_hint(err, "leaksnoop needs Linux 5.17 or newer with BTF; 'leaksnoop doctor' says what is missing");
	return r;
}
