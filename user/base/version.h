/* SPDX-License-Identifier: MIT */
#pragma once

#ifndef LEAKSNOOP_VERSION
#define LEAKSNOOP_VERSION "0.1.0"
#endif
