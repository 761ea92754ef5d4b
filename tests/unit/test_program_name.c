/* SPDX-License-Identifier: MIT */
/* Command lines as they are met, and as nobody should write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "target/program_name.h"

static void test_names(void **state)
{
	static const struct {
		const char *name;
		const char *cmdline[8];
	} cases[] = {
		{ "app.py", { "python3", "/srv/app.py", "--port", "80" } },
		{ "app.py", { "/venv/bin/python3.11", "-u", "-X", "dev", "-W", "error", "app.py" } },
		{ "app.py", { "python3", "-Xdev", "-Wd", "-bb", "--check-hash-based-pycs", "never", "app.py" } },
		{ "http.server", { "python3", "-m", "http.server", "8000" } },
		{ "http.server", { "python3", "-um", "http.server" } },
		{ "json.tool", { "python", "-mjson.tool" } },
		{ "-c", { "python3", "-c", "import time" } },
		{ "-c", { "python3", "-Ic", "import time" } },
		{ "dir", { "python3", "/srv/dir/" } },
		{ "python3", { "/usr/bin/python3" } },
		{ "python3", { "python3", "-" } },
		{ "python3", { "python3", "-m" } },
		{ "python3", { "python3", "-X" } },
		{ "uwsgi", { "/usr/bin/uwsgi", "--ini", "/etc/uwsgi.ini" } },
		{ "gunicorn: worker [/srv/app]", { "gunicorn: worker [/srv/app]" } },
		{ "comm", { "" } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		_cleanup_(freep) char *name = NULL;

		assert_int_equal(program_name(cases[i].cmdline, "comm", &name), 0);
		assert_string_equal(name, cases[i].name);
	}
	for (int i = 0; i < 2; i++) {
		static const char *const empty[] = { NULL };
		_cleanup_(freep) char *name = NULL;

		assert_int_equal(program_name(i ? empty : NULL, "comm", &name), 0);
		assert_string_equal(name, "comm");
	}
}

static void test_scripts(void **state)
{
	static const struct {
		const char *argv[7];
		const char *script;
	} cases[] = {
		{ { "python3", "/srv/app.py", "x" }, "app.py" },
		{ { "/opt/bin/ours", "/srv/app.py" }, "app.py" },
		{ { "python3", "-X", "dev", "-Im", "http.server" }, "http.server" },
		{ { "python3", "-mhttp.server", "80" }, "http.server" },
		{ { "python3", "-Xdev", "-u", "app.py" }, "app.py" },
		{ { "python3", "-Wd", "-BEs", "-W", "error" }, NULL },
		{ { "python3", "-Wd", "-BEs", "-W", "error", "a/b" }, "b" },
		{ { "python3", "--check-hash-based-pycs", "never", "c.py" }, "c.py" },
		{ { "python3", "-c", "print()", "no.py" }, "-c" },
		{ { "python3", "-", "no.py" }, NULL },
		{ { "python3", "-m" }, NULL },
		{ { "python3", "-m", "" }, NULL },
		{ { "python3", "-W" }, NULL },
		{ { "python3", "" }, NULL },
		{ { "python3" }, NULL },
		{ { NULL }, NULL },
	};
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *script = program_script(cases[i].argv, &len);

		assert_int_equal(script != NULL, cases[i].script != NULL);
		if (script) {
			assert_int_equal(len, strlen(cases[i].script));
			assert_memory_equal(script, cases[i].script, len);
		}
	}
	assert_null(program_script(NULL, &len));
	assert_null(program_file(NULL, &len));
	assert_null(program_file(cases[15].argv, &len));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_scripts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
