/* SPDX-License-Identifier: MIT */
/* What people call a Python process: the name of its script or module. Command lines are untrusted, NULL-terminated, and may be NULL. */
#pragma once

#include <stddef.h>

/* The last part of argv[0]'s path, not copied; *ret_len: its length. NULL: there is none. */
const char *program_file(const char *const *cmdline, size_t *ret_len);
/*
 * What an interpreter with these arguments runs, as in python(1): a script ("app.py" of "-u /srv/app.py --port 80"), a module ("http.server" of
 * "-m http.server"), or "-c". Not copied; *ret_len: its length. NULL: neither.
 */
const char *program_script(const char *const *cmdline, size_t *ret_len);

/*
 * "app.py" of "python3 -u /srv/app.py --port 80", "http.server" of "python3 -m http.server", "-c" of "python3 -c ...", and of what is no
 * interpreter's command line ("uwsgi", "gunicorn: worker [app]") or has no script argv[0]'s base name; comm without a command line. -ENOMEM.
 */
int program_name(const char *const *cmdline, const char *comm, char **ret_name);
