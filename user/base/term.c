/* SPDX-License-Identifier: MIT */
/* Terminals: asked of the kernel and the environment, never of the terminal itself. */
#include "base/term.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WIDTH_DEFAULT 80u
#define WIDTH_MIN 20u
#define WIDTH_MAX 1000u

static unsigned clamp_width(unsigned long width)
{
	return width < WIDTH_MIN ? WIDTH_MIN : width > WIDTH_MAX ? WIDTH_MAX : (unsigned)width;
}

unsigned term_width(int fd)
{
	const char *columns = getenv("COLUMNS");
	struct winsize ws = { 0 };

	if (!isatty(fd))
		return 0;
	if (ioctl(fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col)
		return clamp_width(ws.ws_col);
	if (columns && *columns >= '1' && *columns <= '9')
		return clamp_width(strtoul(columns, NULL, 10));
	return WIDTH_DEFAULT;
}

void term_inspect(int fd, struct term *ret_term)
{
	const char *no_color = getenv("NO_COLOR");
	const char *kind = getenv("TERM"), *more = getenv("COLORTERM");
	unsigned width = term_width(fd);

	*ret_term = (struct term){
		.is_tty = width > 0,
		.width = width,
		.colours = width > 0 && kind && *kind && strcmp(kind, "dumb") != 0 && !(no_color && *no_color),
	};
	ret_term->colours_256 = ret_term->colours && (strstr(kind, "256color") || strstr(kind, "direct") || (more && *more));
}
