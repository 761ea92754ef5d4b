/* SPDX-License-Identifier: MIT */
/* What libbpf says when it fails, in our words. */
#pragma once

#include "base/err.h"

/* From here on libbpf is silent, and its last warning is kept for libbpf_explain(). */
void libbpf_listen(void);
/* A BPF object that cannot be loaded or attached: fills err, returns r (negative errno). */
int libbpf_explain(struct err *err, int r);
