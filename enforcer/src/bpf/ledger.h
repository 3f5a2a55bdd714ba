/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who was denied what. Every denial is counted in `denied`, in one row for all packets of a kind; the first of a kind is told to user
 * space at once, as long as there are not too many. All of this happens to packets that fall only.
 */
#pragma once

#include "maps.h"

#define RF_EVENTS_A_SECOND 100 /* on each CPU */

static __always_inline bool rf_may_tell(__u64 now)
{
	__u32 zero = 0;
	struct rf_pace *mine = bpf_map_lookup_elem(&pace, &zero);

	if (!mine)
		return false;
	if (now - mine->since >= 1000000000ULL) {
		mine->since = now;
		mine->told = 0;
	}
	return mine->told++ < RF_EVENTS_A_SECOND;
}

static __noinline int rf_record(const struct rf_denial *denial, __u64 now)
{
	struct rf_denials fresh = { .packets = 1, .last = now };
	struct rf_denials *row = bpf_map_lookup_elem(&denied, denial);

	if (row) {
		__sync_fetch_and_add(&row->packets, 1);
		row->last = now;
		return 0;
	}
	bpf_map_update_elem(&denied, denial, &fresh, BPF_ANY);
	if (!rf_may_tell(now) || bpf_ringbuf_output(&events, (void *)denial, sizeof(*denial), 0))
		rf_count(RF_TALLY_UNSENT);
	return 0;
}
