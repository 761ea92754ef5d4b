/* SPDX-License-Identifier: MIT */
/* Ctrl-C of verbs that run for a while. */
#pragma once

/*
 * SIGINT and SIGTERM are read from the descriptor that is returned (non-blocking), so that they arrive between two steps, never in one; a reader
 * that leaves (| head) makes writes fail instead of killing. -1, with errno, on an error.
 */
int signals_take(void);
/* And these two. */
int signals_take_also(int one, int other);
