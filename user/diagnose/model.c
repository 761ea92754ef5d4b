/* SPDX-License-Identifier: MIT */
#include "diagnose/model.h"

static const char *const finding_kinds[] = {
#define X(name) #name,
	FINDING_KINDS(X)
#undef X
};

static const char *const verdict_kinds[] = {
#define X(id, name) name,
	VERDICT_KINDS(X)
#undef X
};

const char *finding_kind_name(enum finding_kind kind)
{
	return finding_kinds[kind];
}

const char *verdict_name(enum verdict_kind kind)
{
	return verdict_kinds[kind];
}
