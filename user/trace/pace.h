/* SPDX-License-Identifier: MIT */
/*
 * When to open the next window and for how long, so that what the windows cost
 * the target stays within a share of the time it computes. Arithmetic only: time,
 * costs and chance are given.
 *
 * Two things hold the budget together. A rate: the share of time spent armed is
 * the allowance a second divided by what an armed second costs. And an account:
 * it earns the allowance, pays what each window really cost, and no window opens
 * while it could not pay for the window expected. A long window of unforeseen
 * cost (a burst) ends at hits_max; the account then waits until it is paid off.
 *
 * Windows must not follow the rhythm of the target: the gap before each is drawn
 * from an exponential distribution, so that any moment is as likely to fall into
 * a window as any other. What is seen in a window stands for cycle_ns / armed of it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct pace_options {
	double budget;       /* 0.02: the target may become 2 % slower */
	double share_max;    /* of time armed, at most; 1: it may stay armed where that is cheap enough */
	double trap_ns;      /* what a hit costs before and after the program behind it runs */
	uint64_t seed;
};

/* What the target has done with its time so far. */
struct pace_clock {
	uint64_t cpu_ns;          /* computed, all threads */
	uint64_t delay_ns;        /* waited for a processor, its main thread */
};

struct pace {
	struct pace_options options;
	uint64_t now_ns, random;
	struct pace_clock clock;
	double account_ns;        /* overhead that may be spent now; below zero: spent too much */
	double income;            /* allowance a nanosecond, smoothed */
	double load;              /* share of the time that it computes or waits for a processor, smoothed; at most 1 */
	double cost;              /* overhead an armed nanosecond; while few hits were seen an upper bound */
	double mean, armed_ns;    /* the same as a mean over so much armed time */
	uint64_t hits;            /* seen so far */
	double hit_ns;            /* of one hit with its program, smoothed */
	double owed_ns;           /* overhead spent since cpu_ns was read: part of the target's time, but not of its work */
};

struct pace_plan {
	uint64_t start_ns;
	uint64_t length_ns;
	uint64_t hits_max;
	double wait_ns;           /* until start_ns, of which this much is the account's: no window could have begun then */
	double cycle_ns;          /* expected time from the plan to the window's end */
	bool stay;                /* armed all the time: the next window follows at once */
};

/* now_ns: CLOCK_MONOTONIC. */
void pace_init(struct pace *pace, const struct pace_options *options, uint64_t now_ns, struct pace_clock clock);
/* Time went by. */
void pace_earn(struct pace *pace, uint64_t now_ns, struct pace_clock clock);
/* A window was armed for armed_ns and hit so often; the programs behind took run_ns. Returns what that cost, in ns. */
double pace_pay(struct pace *pace, double armed_ns, uint64_t hits, uint64_t run_ns);
double pace_load(const struct pace *pace);
/* The next window, counted from pace->now_ns. */
struct pace_plan pace_next(struct pace *pace);
