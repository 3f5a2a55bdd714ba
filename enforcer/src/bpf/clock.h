/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The time, to a tick. The coarse clock goes on once a jiffy, so each CPU asks it once in each: jiffies are read in place, and the clock
 * is a call.
 */
#pragma once

#include "maps.h"

/* When it was, when it was last asked. */
struct rf_tick {
	__u64 jiffies;
	__u64 now; /* ns */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rf_tick);
} tick SEC(".maps");

static __always_inline __u64 rf_now(void)
{
	__u64 jiffies = bpf_jiffies64();
	struct rf_tick *mine;
	__u32 zero = 0;

	mine = bpf_map_lookup_elem(&tick, &zero);
	if (!mine)
		return bpf_ktime_get_coarse_ns();
	if (mine->jiffies != jiffies) {
		mine->now = bpf_ktime_get_coarse_ns();
		mine->jiffies = jiffies;
	}
	return mine->now;
}
