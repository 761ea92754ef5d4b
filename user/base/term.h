/* SPDX-License-Identifier: MIT */
/* What the other end of a file descriptor can show. */
#pragma once

#include <stdbool.h>

struct term {
	bool is_tty;
	bool colours;     /* a terminal, TERM is set and not "dumb", NO_COLOR is unset or empty */
	bool colours_256; /* and 256 of them, as TERM ("xterm-256color") or COLORTERM says */
	unsigned width;   /* columns, 20 to 1000; 0: no terminal, lines are not cut */
};

void term_inspect(int fd, struct term *ret_term);
/* The width again, after SIGWINCH; 0 if fd is no terminal. */
unsigned term_width(int fd);
