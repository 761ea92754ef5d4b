/* SPDX-License-Identifier: MIT */
/*
 * Opening real interpreters: version, threads, sub-interpreters, and the frames
 * of every thread read with nothing but struct walk_cfg, which must equal what
 * sys._current_frames() says. And everything that must be refused.
 */
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "../bpf/control.h"
#include "interp/linetable.h"
#include "interp/python_impl.h"
#include "interp/text.h"
#include "pytarget.h"
#include "walker_host.h"

/* Threads that sleep at known places; the main thread prints them and waits for its input to end. */
static const char program[] =
	"import sys, threading, time\n"
	"def deep(n, f):\n"
	"    if n:\n"
	"        return deep(n - 1, f)\n"
	"    return f()\n"
	"def gen(f):\n"
	"    yield 1\n"
	"    yield f()\n"
	"def wait():\n"
	"    while True: time.sleep(1000)\n"
	"class K:\n"
	"    def m\u00e9thode(self):\n"
	"        return [x for x in gen(\n"
	"            wait)]\n"
	"def nap(n): deep(n, lambda: sorted([1], key=lambda _: K().m\u00e9thode()))\n"
	"ts = [threading.Thread(target=nap, args=(3 * i,), daemon=True) for i in range(4)]\n"
	"[t.start() for t in ts]\n"
	"time.sleep(0.3)\n"
	"print(sys.version.split()[0], flush=True)\n"
	"for t in ts:\n"
	"    f = sys._current_frames()[t.ident]\n"
	"    print('T', t.ident, flush=True)\n"
	"    while f:\n"
	"        name = getattr(f.f_code, 'co_qualname', f.f_code.co_name)\n"
	"        sys.stdout.buffer.write(('F %d %s %s\\n' % (f.f_lineno, name, f.f_code.co_filename)).encode())\n"
	"        f = f.f_back\n"
	"    sys.stdout.flush()\n"
	"print('E', flush=True)\n"
	"sys.stdin.read()\n";

struct walker {
	const struct python *python;
	struct rmem *mem;
	struct walk_cfg cfg;
	struct walk_scratch scratch;
};

static uint64_t get_u64(const struct walker *w, uint64_t addr)
{
	uint64_t value = 0;

	assert_int_equal(rmem_u64(w->mem, RADDR(addr), &value), 0);
	return value;
}

static uint32_t get_u32(const struct walker *w, uint64_t addr)
{
	uint32_t value = 0;

	assert_int_equal(rmem_u32(w->mem, RADDR(addr), &value), 0);
	return value;
}

static void get_text(const struct walker *w, uint64_t str, char *buf, size_t size)
{
	uint32_t state = get_u32(w, str + w->cfg.str_state);
	uint64_t length = get_u64(w, str + w->cfg.str_length);
	int kind = (int)((state >> 2) & 7);
	bool ascii = state & 64;
	uint8_t bytes[1024];

	assert_true(length * (uint64_t)kind <= sizeof(bytes));
	assert_int_equal(rmem_read(w->mem, RADDR(str + (ascii ? w->cfg.str_ascii_data : w->cfg.str_compact_data)), bytes,
				   length * (size_t)kind), 0);
	text_utf8(kind, bytes, length * (size_t)kind, buf, size);
}

static int get_line(const struct walker *w, const struct frame_rec *frame)
{
	const struct walk_cfg *c = &w->cfg;
	uint64_t table = get_u64(w, frame->code + c->co_linetable);
	uint64_t size = get_u64(w, table + c->bytes_size);
	static uint8_t bytes[1 << 16];

	assert_true(size <= sizeof(bytes));
	assert_int_equal(rmem_read(w->mem, RADDR(table + c->bytes_data), bytes, size), 0);
	return linetable_line(linetable_kind_of(python_version_hex(w->python)), bytes, size,
			      (int)get_u32(w, frame->code + c->co_firstlineno), frame->offset);
}

/* The threads block without the GIL: their state comes from what stays with a detached thread. */
static void walk_thread_of(struct walker *w, uint64_t ident)
{
	uint64_t tstate;

	walk_mem = w->mem;
	tstate = walk_tstate(&w->cfg, ident, 0, 0);
	assert_int_not_equal(tstate, 0);
	assert_int_equal(get_u64(w, tstate + w->cfg.ts_thread_id), ident);
	walk_frames(&w->cfg, tstate, 0, &w->scratch);
	assert_int_equal(w->scratch.flags, 0);
}

static void check_threads(struct walker *w, struct pytarget *target)
{
	char line[2048], name[512], file[512], want[1100];
	size_t frames = 0;
	uint32_t next = 0;

	w->cfg.max_frames = MAX_FRAMES;
	while (pytarget_line(target, line, sizeof(line)) && line[0] != 'E') {
		const struct frame_rec *frame;

		if (line[0] == 'T') {
			assert_int_equal(next, w->scratch.count);
			walk_thread_of(w, strtoull(line + 2, NULL, 10));
			next = 0;
			continue;
		}
		assert_true(next < w->scratch.count);
		frame = &w->scratch.frames[next++];
		get_text(w, get_u64(w, frame->code + w->cfg.co_name), name, sizeof(name));
		get_text(w, get_u64(w, frame->code + w->cfg.co_filename), file, sizeof(file));
		snprintf(want, sizeof(want), "F %d %s %s", get_line(w, frame), name, file);
		assert_string_equal(line, want);
		frames++;
	}
	assert_int_equal(line[0], 'E');
	assert_int_equal(next, w->scratch.count);
	assert_true(frames > 30);
}

static void check_interpreter(const struct pyinterp *interp)
{
	_cleanup_(python_freep) struct python *python = NULL;
	struct pytarget target;
	struct walker w = { 0 };
	struct err err = { 0 };
	char version[64];
	raddr_t interps[4], tstates[16];

	assert_int_equal(pytarget_start(interp, program, NULL, &target), 0);
	assert_true(pytarget_line(&target, version, sizeof(version)));
	if (python_open(target.pid, &python, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	print_message("%s: %s, %s\n", interp->label, python_version(python), python_layout_source(python));
	assert_string_equal(python_version(python), version);
	assert_int_equal(python_interpreters(python, interps, 4), 1);
	assert_int_equal(python_threads(python, interps[0], tstates, 16), 5);
	assert_int_equal(python_threads(python, interps[0], tstates, 2), 2);
	w.python = python;
	w.mem = python_rmem(python);
	if (python_walk_cfg(python, &w.cfg, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	check_threads(&w, &target);
	pytarget_stop(&target);
}

static void test_interpreters(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		check_interpreter(&interps[i]);
}

/* A target that runs all the time: torn reads must not make a good process look bad. */
static void test_busy(void **state)
{
	static const char busy[] = "import threading, sys, time\n"
				   "def f(n): return [f(n - 1) for _ in range(3)] if n else [object()]\n"
				   "def run():\n"
				   "    while True:\n"
				   "        t = threading.Thread(target=f, args=(4,)); t.start(); f(6); t.join()\n"
				   "[threading.Thread(target=run, daemon=True).start() for i in range(3)]\n"
				   "print('r', flush=True); sys.stdin.read()\n";
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		struct pytarget target;
		struct err err = { 0 };
		char line[8];

		assert_int_equal(pytarget_start(&interps[i], busy, NULL, &target), 0);
		assert_true(pytarget_line(&target, line, sizeof(line)));
		for (int k = 0; k < 8; k++) {
			_cleanup_(python_freep) struct python *python = NULL;
			struct walk_cfg cfg;

			if (python_open(target.pid, &python, &err) < 0 || python_walk_cfg(python, &cfg, &err) < 0)
				fail_msg("%s: %s", interps[i].label, err.what);
			assert_true(interps[i].minor < 12 ? cfg.tstate_source == TSTATE_GLOBAL : cfg.tstate_source == TSTATE_TLS);
		}
		pytarget_stop(&target);
	}
}

static void test_subinterpreters(void **state)
{
	static const char sub[] = "import sys\n"
				  "try: import _interpreters as i\n"
				  "except ImportError: import _xxsubinterpreters as i\n"
				  "ids = [i.create() for _ in range(3)]\n"
				  "print('r', flush=True); sys.stdin.read()\n";
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		_cleanup_(python_freep) struct python *python = NULL;
		struct pytarget target;
		struct err err = { 0 };
		raddr_t found[8];
		char line[8];

		assert_int_equal(pytarget_start(&interps[i], sub, NULL, &target), 0);
		assert_true(pytarget_line(&target, line, sizeof(line)));
		if (python_open(target.pid, &python, &err) < 0)
			fail_msg("%s: %s", interps[i].label, err.what);
		assert_int_equal(python_interpreters(python, found, 8), 4);
		pytarget_stop(&target);
	}
}

/* libpython's file, if the interpreter uses one, and its home. */
static const char where_lib[] = "import sys, sysconfig\n"
				"v = sysconfig.get_config_var\n"
				"try: shared = 'libpython' in open('/proc/self/maps').read()\n"
				"except OSError: shared = False\n"
				"print(v('LIBDIR') + '/' + v('INSTSONAME') if shared else '-')\n"
				"print(sys.prefix)\n";

/* Loads libpython long after the start, runs a program in it, and never returns. */
static void embed(const char *lib, const char *home, int ready)
{
	static const char run[] = "import threading, time, sys, os\n"
				  "[threading.Thread(target=time.sleep, args=(1000,), daemon=True).start() for i in range(3)]\n"
				  "time.sleep(0.1)\n"
				  "os.write(%d, b'r')\n"
				  "while True: sum(range(1000))\n";
	char code[sizeof(run) + 16];
	void *handle;
	void (*initialize)(int);
	int (*simple)(const char *);

	setenv("PYTHONHOME", home, 1);
	handle = dlopen(lib, RTLD_NOW | RTLD_GLOBAL);
	if (!handle)
		_exit(1);
	*(void **)(void *)&initialize = dlsym(handle, "Py_InitializeEx");
	*(void **)(void *)&simple = dlsym(handle, "PyRun_SimpleString");
	initialize(0);
	snprintf(code, sizeof(code), run, ready);
	simple(code);
	_exit(1);
}

/* The thread that holds the GIL is seen to, through the DTV, within some looks. */
static void check_dtv(const struct python *python, const struct walk_cfg *cfg)
{
	raddr_t interps[1], tstates[8];

	for (int i = 0; i < 1000; i++) {
		ssize_t n;

		assert_int_equal(python_interpreters(python, interps, 1), 1);
		n = python_threads(python, interps[0], tstates, 8);
		assert_int_equal(n, 4);
		for (ssize_t k = 0; k < n; k++) {
			uint64_t fs, block, tstate;

			assert_int_equal(rmem_u64(python_rmem(python), raddr_add(tstates[k], cfg->ts_thread_id), &fs), 0);
			if (tls_block(python, fs, cfg->tls_module, &block) == 0 &&
			    rmem_u64(python_rmem(python), RADDR(block + cfg->tls_offset), &tstate) == 0 && tstate == tstates[k].v)
				return;
		}
	}
	fail_msg("no thread ever held the GIL");
}

/* libpython loaded by dlopen: from 3.12 its thread-local variables may be anywhere, by way of the DTV. */
static void check_embedded(const struct pyinterp *interp, const char *lib, const char *home)
{
	_cleanup_(python_freep) struct python *python = NULL;
	struct walk_cfg cfg;
	struct err err = { 0 };
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0)
		embed(lib, home, ready[1]);
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	if (python_open(pid, &python, &err) < 0 || python_walk_cfg(python, &cfg, &err) < 0)
		fail_msg("%s embedded: %s", interp->label, err.what);
	print_message("%s embedded: source %u, offset %lld, module %llu, fallback %llu\n", interp->label, cfg.tstate_source,
		      (long long)cfg.tls_offset, (unsigned long long)cfg.tls_module, (unsigned long long)cfg.fallback_offset);
	assert_int_not_equal(cfg.fallback_offset, 0);
	assert_int_equal(cfg.tstate_source, interp->minor < 12 ? TSTATE_GLOBAL : TSTATE_DTV);
	if (cfg.tstate_source == TSTATE_DTV)
		check_dtv(python, &cfg);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_embedded(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		struct pytarget target;
		char lib[512], home[512];
		bool ok;

		assert_int_equal(pytarget_start(&interps[i], where_lib, NULL, &target), 0);
		ok = pytarget_line(&target, lib, sizeof(lib)) && pytarget_line(&target, home, sizeof(home));
		pytarget_stop(&target);
		if (ok && lib[0] == '/' && access(lib, R_OK) == 0)
			check_embedded(&interps[i], lib, home);
	}
}

static void test_old(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps_old(&n);

	(void)state;
	if (n == 0)
		print_message("skipped: LEAKSNOOP_OLD_PYTHONS names no unsupported interpreter\n");
	for (size_t i = 0; i < n; i++) {
		struct python *python = NULL;
		struct pytarget target;
		struct err err = { 0 };
		char line[8];

		assert_int_equal(pytarget_start(&interps[i], "import sys\nsys.stdout.write('r\\n'); sys.stdout.flush(); sys.stdin.read()",
						NULL, &target), 0);
		assert_true(pytarget_line(&target, line, sizeof(line)));
		assert_int_equal(python_open(target.pid, &python, &err), -ENOTSUP);
		print_message("%s: %s | %s\n", interps[i].label, err.what, err.hint);
		assert_non_null(strstr(err.what, "not supported"));
		assert_int_not_equal(err.hint[0], 0);
		pytarget_stop(&target);
	}
}

static void test_refused(void **state)
{
	static char *const cat[] = { (char *)(uintptr_t)"cat", NULL };
	struct python *python = NULL;
	struct pytarget target;
	struct err err = { 0 };
	pid_t pid;

	(void)state;
	assert_int_equal(pytarget_exec(cat, NULL, &target), 0);
	usleep(100000);
	assert_int_equal(python_open(target.pid, &python, &err), -ENOEXEC);
	assert_int_not_equal(err.what[0], 0);
	pid = target.pid;
	pytarget_stop(&target);
	assert_int_equal(python_open(pid, &python, &err), -ESRCH);
	assert_int_not_equal(err.what[0], 0);
	assert_null(python);
}

static void test_versions(void **state)
{
	uint32_t hex = 0;
	char text[24];

	(void)state;
	assert_int_equal(version_parse("3.10.13", &hex), 0);
	assert_int_equal(hex, 0x030a0df0);
	assert_int_equal(version_parse("3.15.0rc1", &hex), 0);
	version_format(hex, text, sizeof(text));
	assert_string_equal(text, "3.15.0rc1");
	assert_int_equal(version_parse("3.9.0+", &hex), 0);
	assert_int_equal(version_parse("3.9", &hex), -EINVAL);
	assert_int_equal(version_parse("3.9.1.2", &hex), -EINVAL);
	assert_int_equal(version_parse("3.9.1a", &hex), -EINVAL);
	assert_int_equal(version_parse("3.9.999", &hex), -EINVAL);
	assert_int_equal(version_parse("", &hex), -EINVAL);
}

static void test_layouts(void **state)
{
	struct layout l;
	uint8_t bytes[DEBUG_OFFSETS_MAX] = "xdebugpy";
	struct debug_offsets head;

	(void)state;
	assert_int_equal(layout_find(PY_HEX(3, 7, 16), &l), -ENOTSUP);
	assert_int_equal(layout_find(PY_HEX(3, 16, 0), &l), -ENOTSUP);
	assert_int_equal(layout_find(PY_HEX(4, 8, 0), &l), -ENOTSUP);
	assert_int_equal(layout_find(PY_HEX(3, 14, 0), &l), 0);
	assert_int_equal(l.in_obmalloc, 10872);
	assert_int_equal(layout_find(PY_HEX(3, 14, 4), &l), 0);
	assert_int_equal(l.in_obmalloc, 10880);
	assert_int_equal(layout_find(PY_HEX(3, 14, 8), &l), 0);
	assert_int_equal(l.in_obmalloc, 10904);
	assert_int_equal(debug_offsets_head(bytes, 23, &head), -ENOENT);
	assert_int_equal(debug_offsets_head(bytes, sizeof(bytes), &head), 0);
	memset(bytes + 24, 0xff, 8);
	assert_int_equal(debug_offsets_apply(bytes, sizeof(bytes), &l), -EPROTO);
	assert_int_equal(debug_offsets_apply(bytes, 100, &l), -EPROTO);
	assert_int_equal(l.in_obmalloc, 10904);
	assert_int_equal(layout_find(PY_HEX(3, 12, 1), &l), 0);
	assert_int_equal(debug_offsets_apply(bytes, sizeof(bytes), &l), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_old),
		cmocka_unit_test(test_interpreters),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_subinterpreters),
		cmocka_unit_test(test_embedded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
