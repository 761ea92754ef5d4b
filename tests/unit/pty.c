/* SPDX-License-Identifier: MIT */
#include "pty.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <cmocka.h>

int main_fd = -1, term_fd = -1;

int pty_open(void **state)
{
	(void)state;
	main_fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (main_fd < 0 || grantpt(main_fd) || unlockpt(main_fd))
		return -1;
	term_fd = open(ptsname(main_fd), O_RDWR | O_NOCTTY | O_CLOEXEC);
	return term_fd < 0 ? -1 : 0;
}

int pty_close(void **state)
{
	(void)state;
	close(term_fd);
	close(main_fd);
	return 0;
}

void pty_resize(unsigned short columns)
{
	struct winsize size = { .ws_row = 24, .ws_col = columns };

	assert_int_equal(ioctl(term_fd, TIOCSWINSZ, &size), 0);
}
