/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Flows. Policy is about who may open one; what belongs to it then passes both ways, until the endpoint's generation
 * says that something changed, and the next packet, of whichever direction, has the flow judged again.
 */
#pragma once

#include "maps.h"

#define RF_SECOND 1000000000ULL

/* How long a flow is remembered without a packet. A TCP connection that was forgotten is picked up again. */
static __always_inline __u64 rf_lifetime(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return 21600 * RF_SECOND;
	case IPPROTO_UDP:
		return 180 * RF_SECOND;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return 60 * RF_SECOND;
	default:
		return 600 * RF_SECOND;
	}
}

static __always_inline struct rf_flow *rf_flow_at(const struct rf_flow_key *key, bool six)
{
	return six ? bpf_map_lookup_elem(&ct6, key) : bpf_map_lookup_elem(&ct4, key);
}

static __always_inline struct rf_flow *rf_flow_find(const struct rf_flow_key *key, __u64 now, bool six)
{
	struct rf_flow *flow = rf_flow_at(key, six);

	/* `now` is this CPU's: another one may have written a later time. */
	if (flow && (__s64)(now - flow->seen) > (__s64)rf_lifetime(key->protocol))
		return NULL;
	return flow;
}

/* Writes are what costs on a shared cache line: a second's precision is enough. */
static __always_inline void rf_flow_touch(struct rf_flow *flow, __u64 now)
{
	if ((__s64)(now - flow->seen) > (__s64)RF_SECOND)
		flow->seen = now;
}

/* The map is an LRU: an insertion that fails loses nothing but the memory of the flow, so it is no error. */
static __always_inline void rf_flow_put(const struct rf_flow_key *key, const struct rf_flow *flow, bool six)
{
	if (six)
		bpf_map_update_elem(&ct6, key, flow, BPF_ANY);
	else
		bpf_map_update_elem(&ct4, key, flow, BPF_ANY);
}

static __always_inline void rf_flow_add(const struct rf_flow_key *key, __u32 gen, __u8 flags, __u64 now, bool six)
{
	struct rf_flow flow = { .seen = now, .gen = gen, .flags = flags };

	rf_flow_put(key, &flow, six);
}
