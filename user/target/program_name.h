/* SPDX-License-Identifier: MIT */
/* What people call a Python process: the name of its script or module. */
#pragma once

/*
 * "app.py" of "python3 -u /srv/app.py --port 80", "http.server" of "python3 -m http.server", "-c" of "python3 -c ...", and of what is no
 * interpreter's command line ("uwsgi", "gunicorn: worker [app]") or has no script argv[0]'s base name; comm without a command line. Untrusted,
 * as cmdline is. cmdline: NULL-terminated; may be NULL. -ENOMEM.
 */
int program_name(const char *const *cmdline, const char *comm, char **ret_name);
