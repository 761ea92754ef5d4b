/* SPDX-License-Identifier: MIT */
/* A pseudo-terminal of a test's own. */
#pragma once

/* Both ends; -1 outside of pty_open() and pty_close(). Reading from the main end does not wait. */
extern int main_fd, term_fd;

/* As cmocka's set-up and tear-down. */
int pty_open(void **state);
int pty_close(void **state);
void pty_resize(unsigned short columns);
