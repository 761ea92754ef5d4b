/* SPDX-License-Identifier: MIT */
#include "cmd/signals.h"

#include <signal.h>
#include <sys/signalfd.h>

int signals_take(void)
{
	return signals_take_also(SIGINT, SIGTERM);
}

int signals_take_also(int one, int other)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, one);
	sigaddset(&set, other);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}
