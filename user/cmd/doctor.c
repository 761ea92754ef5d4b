/* SPDX-License-Identifier: MIT */
/* leaksnoop doctor [PID]: what this kernel offers, what a process looks like to us, and what a killed tracer left behind. */
#include <errno.h>
#include <string.h>

#include "base/fmt.h"
#include "base/term.h"
#include "cmd/describe.h"
#include "cmd/verb.h"
#include "interp/ref_tracer.h"
#include "report/table.h"
#include "report/write.h"
#include "trace/arm.h"
#include "trace/kernel.h"
#include "trace/lock.h"
#include "trace/tracee.h"

#define KERNEL_LEAST "5.17"

struct doctor_opts {
	bool disarm;
	int format;
};

static const struct option_row rows[] = {
	OPTION(struct doctor_opts, disarm, FLAG, 0, "disarm", NULL, NULL, "restore slots that a killed tracer left armed"),
	OPTION(struct doctor_opts, format, CHOICE, 'f', "format", NULL, "text", "how findings and errors are written", .choices = "text|json"),
	{ 0 }
};

static const char *const domain_names[DOMAIN_COUNT] = { "raw", "mem", "obj" };
static const char *const function_names[FN_COUNT] = { "malloc", "calloc", "realloc", "free" };

static json_t *kernel_classes(const struct kernel_costs *costs)
{
	json_t *classes = json_array();

	for (int c = 0; c < SITE_CLASS_COUNT; c++)
		json_array_append_new(classes, json_pack("{s:s, s:o, s:b}", "instruction", site_class_name(c),
							 "hit_us", costs->hit_us[c] < 0 ? json_null() : json_real(costs->hit_us[c]),
							 "emulated", (int)(costs->emulated >> c & 1)));
	return classes;
}

static json_t *known_int(int value)
{
	return value < 0 ? json_null() : json_integer(value);
}

static json_t *examine_kernel(struct kernel_costs *costs, struct err *err)
{
	struct kernel_facts facts;
	int r;

	kernel_facts_read(&facts);
	r = kernel_measure(costs, err);
	return json_pack("{s:s, s:s, s:b, s:b, s:b, s:b, s:o, s:o, s:o, s:o}", "release", facts.release, "needs", KERNEL_LEAST,
			 "btf", (int)facts.btf, "bpf_jit", (int)facts.jit, "uprobes", (int)facts.uprobes,
			 "syscall_tracepoints", (int)facts.syscall_tracepoints,
			 "unprivileged_bpf_disabled", known_int(facts.unprivileged_bpf_disabled),
			 "perf_event_paranoid", known_int(facts.perf_event_paranoid),
			 "instructions", r ? json_null() : kernel_classes(costs), "error", json_text(r ? err->what : NULL));
}

static json_t *examine_image(const struct python *python)
{
	const struct image *image = python_image(python);

	return json_pack("{s:o, s:s, s:b, s:b, s:b, s:b, s:o, s:o, s:o}", "path", json_text(image_path(image)),
			 "build_id", image_build_id(image), "executable", (int)image_is_executable(image),
			 "pie", (int)image_is_pie(image), "stripped", (int)image_is_stripped(image),
			 "deleted", (int)image_is_deleted(image), "build", describe_build(python),
			 "layout", json_text(python_layout_source(python)), "runtime", describe_addr(python_runtime(python)));
}

static json_t *examine_ref_tracer(const struct slot *s)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:b}", "domain", "ref_tracer", "function", "object", "slot", describe_addr(s->addr),
			 "value", describe_addr(s->value), "code", describe_addr(s->function), "armed", (int)s->armed);
}

static json_t *examine_slots(const struct slots *slots)
{
	json_t *list = json_array();

	for (int d = 0; d < DOMAIN_COUNT; d++)
		for (int f = 0; f < FN_COUNT; f++) {
			const struct slot *s = &slots->fn[d][f];

			json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o, s:o, s:b}", "domain", domain_names[d],
							      "function", function_names[f], "slot", describe_addr(s->addr),
							      "value", describe_addr(s->value), "code", describe_addr(s->function),
							      "armed", (int)s->armed));
		}
	if (slots->ref_tracer.addr.v)
		json_array_append_new(list, examine_ref_tracer(&slots->ref_tracer));
	return list;
}

/* What a probe there will see. A function without an alias is seen whole only where no copy of it was inlined. */
static const char *probe_sees(const struct python *python, const struct tracee_probe *p)
{
	if (!p->site.addr.v)
		return "nothing";
	if (p->alias || !python_is_optimised(python))
		return "every call";
	return "calls that were not inlined";
}

/* The probe on the reference tracer. A slot that is another's gets none. */
static json_t *examine_object_probe(const struct python *python, const struct slots *slots, const struct kernel_costs *costs)
{
	bool taken = ref_tracer_is_taken(&slots->ref_tracer);
	struct site site = { 0 };

	if (!taken)
		ref_tracer_site(python, costs->emulated, &site);
	return json_pack("{s:s, s:s, s:o, s:s, s:o, s:s, s:b, s:s}", "function", "object", "domains", "ref_tracer",
			 "code", json_null(), "probe", site.addr.v ? "alias" : "none", "site", describe_addr(site.addr),
			 "instruction", site_class_name(site.class), "emulated", (int)site.emulated,
			 "sees", site.addr.v ? "every object" : taken ? "nothing: another reference tracer is installed" : "nothing");
}

static json_t *examine_probes(const struct python *python, const struct slots *slots, const struct kernel_costs *costs, bool *ret_whole)
{
	struct tracee_probe probes[TRACEE_PROBES_MAX];
	size_t n = tracee_choose_probes(python, slots, costs->emulated, probes);
	json_t *list = json_array();

	*ret_whole = true;
	for (size_t i = 0; i < n; i++) {
		const struct tracee_probe *p = &probes[i];
		const char *sees = probe_sees(python, p);
		char domains[16] = "";

		for (int d = 0; d < DOMAIN_COUNT; d++)
			if (p->domains & (1u << d))
				snprintf(domains + strlen(domains), sizeof(domains) - strlen(domains), "%s%s",
					 domains[0] ? "+" : "", domain_names[d]);
		*ret_whole = *ret_whole && !strcmp(sees, "every call");
		json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:s, s:o, s:s, s:b, s:s}", "function", function_names[p->fn],
						      "domains", domains, "code", describe_addr(p->function),
						      "probe", p->alias ? "alias" : p->site.addr.v ? "body" : "none",
						      "site", describe_addr(p->site.addr), "instruction", site_class_name(p->site.class),
						      "emulated", (int)p->site.emulated, "sees", sees));
	}
	if (slots->ref_tracer.addr.v)
		json_array_append_new(list, examine_object_probe(python, slots, costs));
	return list;
}

/* Slots that are armed while nobody traces. Restores them if asked. *ret_traced: a tracer is at work, they are its own. */
static int examine_left(pid_t pid, const struct slots *slots, bool disarm, bool *ret_traced, int *ret_restored, struct err *err)
{
	_cleanup_(closep) int lock = -1;
	int r;

	*ret_traced = false;
	*ret_restored = 0;
	r = trace_lock(pid, &lock, disarm ? err : NULL);
	if (r == -EBUSY && !disarm) {
		*ret_traced = true;
		return 0;
	}
	if (r || !disarm)
		return r;
	r = arming_restore_left(pid, slots, err);
	if (r > 0)
		*ret_restored = r;
	return r < 0 ? r : 0;
}

static json_t *count_interpreters(const struct python *python, json_int_t *ret_threads)
{
	raddr_t interps[64], threads[4096];
	ssize_t n = python_interpreters(python, interps, 64);

	*ret_threads = 0;
	for (ssize_t i = 0; i < n; i++) {
		ssize_t t = python_threads(python, interps[i], threads, 4096);

		*ret_threads += t > 0 ? t : 0;
	}
	return n < 0 ? json_null() : json_integer(n);
}

static json_t *examine_process(pid_t pid, const struct kernel_costs *costs, bool disarm, int *ret_error, struct err *err)
{
	_cleanup_(python_freep) struct python *python = NULL;
	int r, armed, restored;
	struct slots slots;
	json_t *interps, *probes;
	bool traced, whole;
	json_int_t threads;
	int class_arg;
	raddr_t pool = RADDR_NULL;

	r = python_open(pid, &python, err);
	if (!r)
		r = slots_read(python, &slots, err);
	if (!r)
		r = examine_left(pid, &slots, disarm, &traced, &restored, err);
	*ret_error = r;
	if (r)
		return NULL;
	armed = (int)slots_armed(&slots);
	slots_new_pool(python, &slots, &pool, &class_arg);
	interps = count_interpreters(python, &threads);
	probes = examine_probes(python, &slots, costs, &whole);
	return json_pack("{s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:s, s:b, s:i, s:i}", "target", describe_target(pid, python),
			 "image", examine_image(python), "interpreters", interps, "threads", threads,
			 "allocator", describe_allocator(&slots), "new_pool", describe_addr(pool), "slots", examine_slots(&slots),
			 "probes", probes, "expected_coverage", whole ? "complete" : "partial", "traced", (int)traced,
			 "left_armed", traced ? 0 : armed, "restored", restored);
}

/* Each member of object on a line: "  name            value". */
static void append_facts(struct strbuf *text, const json_t *object)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)object, key, value) {
		if (json_is_array(value) || json_is_object(value) || (json_is_null(value) && !strcmp(key, "error")))
			continue;
		strbuf_appendf(text, "  %-26s ", key);
		table_cell(text, value, CELL_TEXT, 0);
		strbuf_append_c(text, '\n');
	}
}

static const struct column instruction_columns[] = {
	{ "instruction", "INSTRUCTION", CELL_TEXT }, { "hit_us", "US A HIT", CELL_TEXT }, { "emulated", "EMULATED", CELL_TEXT }, { 0 }
};
static const struct column slot_columns[] = {
	{ "domain", "DOMAIN", CELL_TEXT }, { "function", "FUNCTION", CELL_TEXT }, { "slot", "SLOT", CELL_TEXT },
	{ "value", "VALUE", CELL_TEXT }, { "code", "CODE", CELL_TEXT }, { "armed", "ARMED", CELL_TEXT }, { 0 }
};
static const struct column probe_columns[] = {
	{ "function", "FUNCTION", CELL_TEXT }, { "domains", "DOMAINS", CELL_TEXT }, { "probe", "PROBE", CELL_TEXT },
	{ "site", "SITE", CELL_TEXT }, { "instruction", "INSTRUCTION", CELL_TEXT }, { "emulated", "EMULATED", CELL_TEXT },
	{ "sees", "SEES", CELL_TEXT }, { 0 }
};

static void append_process(struct strbuf *text, const json_t *process)
{
	const json_t *target = json_object_get(process, "target");

	strbuf_append(text, "\nprocess\n");
	append_facts(text, target);
	append_facts(text, process);
	strbuf_append(text, "\nimage\n");
	append_facts(text, json_object_get(process, "image"));
	strbuf_append(text, "\nslots\n");
	table_append(text, json_object_get(process, "slots"), slot_columns, 0);
	strbuf_append(text, "\nprobes\n");
	table_append(text, json_object_get(process, "probes"), probe_columns, 0);
	if (json_integer_value(json_object_get(process, "restored")))
		strbuf_append(text, "\nslots left armed by a killed tracer were restored\n");
	else if (json_integer_value(json_object_get(process, "left_armed")))
		strbuf_append(text, "\nslots were left armed by a killed tracer: harmless (a nop a call); --disarm restores them\n");
}

static int print(const json_t *doc, const struct doctor_opts *opts)
{
	const json_t *kernel = json_object_get(doc, "kernel"), *process = json_object_get(doc, "process");
	struct strbuf text = STRBUF_INIT;
	int r;

	if (opts->format)
		return write_json(doc, true, stdout);
	strbuf_append(&text, "kernel\n");
	append_facts(&text, kernel);
	if (json_is_array(json_object_get(kernel, "instructions")))
		table_append(&text, json_object_get(kernel, "instructions"), instruction_columns, 0);
	if (json_is_object(process))
		append_process(&text, process);
	r = write_strbuf(&text, stdout);
	strbuf_free(&text);
	return r;
}

static int run(const void *opts, int argc, char **argv, struct err *err)
{
	const struct doctor_opts *o = opts;
	struct kernel_costs costs = { .emulated = 0 };
	json_t *kernel, *process = NULL, *doc;
	struct err kernel_err = { 0 };
	pid_t pid = 0;
	int r = 0;

	if (argc)
		r = option_pid(argv[0], &pid, err);
	else if (o->disarm)
		r = err_set(err, -EUSAGE, "--disarm needs a PID");
	if (r)
		return r;
	kernel = examine_kernel(&costs, &kernel_err);
	if (argc)
		process = examine_process(pid, &costs, o->disarm, &r, err);
	doc = json_pack("{s:s, s:o, s:o}", "schema", "leaksnoop.doctor/1", "kernel", kernel, "process", process ? process : json_null());
	if (!r)
		r = print(doc, o);
	json_decref(doc);
	return r;
}

const struct verb verb_doctor = {
	.name = "doctor",
	.args_doc = "[PID]",
	.summary = "what this kernel offers, and how a process would be traced",
	.rows = rows,
	.opts_size = sizeof(struct doctor_opts),
	.max_args = 1,
	.run = run,
};
