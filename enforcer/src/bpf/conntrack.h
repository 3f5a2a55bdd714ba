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

static __always_inline struct rf_quota *rf_quota_of(__u32 ifindex)
{
	__u32 index = ifindex & (RF_ENDPOINTS - 1);

	return bpf_map_lookup_elem(&quota, &index);
}

static __always_inline struct rf_flow *rf_flow_at(const struct rf_flow_key *key, bool six)
{
	struct rf_flow *flow = six ? bpf_map_lookup_elem(&ct6, key) : bpf_map_lookup_elem(&ct4, key);
	struct rf_quota *quota;

	if (flow)
		return flow;
	quota = rf_quota_of(key->ifindex);
	if (!quota || !quota->over[six])
		return NULL;
	return six ? bpf_map_lookup_elem(&over6, key) : bpf_map_lookup_elem(&over4, key);
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

/*
 * The maps are LRUs: an insertion that fails loses nothing but the memory of the flow, so it is no error. What a pod has beyond its
 * share never displaces flows of a pod that keeps to its own.
 */
static __always_inline int rf_flow_insert(const struct rf_flow_key *key, const struct rf_flow *flow, bool six)
{
	struct rf_quota *quota = rf_quota_of(key->ifindex);
	__u32 family = six;
	__u64 *allowed = bpf_map_lookup_elem(&share, &family);

	if (quota && allowed && *allowed && quota->flows[six] >= *allowed) {
		quota->over[six] = 1;
		rf_count(six ? RF_TALLY_OVER6 : RF_TALLY_OVER4);
		return six ? bpf_map_update_elem(&over6, key, flow, BPF_ANY) :
			     bpf_map_update_elem(&over4, key, flow, BPF_ANY);
	}
	if (quota)
		__sync_fetch_and_add(&quota->flows[six], 1);
	rf_count(six ? RF_TALLY_FLOWS6 : RF_TALLY_FLOWS4);
	return six ? bpf_map_update_elem(&ct6, key, flow, BPF_ANY) : bpf_map_update_elem(&ct4, key, flow, BPF_ANY);
}

static __noinline int rf_flow_insert4(const struct rf_flow_key *key, const struct rf_flow *flow)
{
	return rf_flow_insert(key, flow, false);
}

static __noinline int rf_flow_insert6(const struct rf_flow_key *key, const struct rf_flow *flow)
{
	return rf_flow_insert(key, flow, true);
}

static __always_inline void rf_flow_put(const struct rf_flow_key *key, const struct rf_flow *flow, bool six)
{
	if (six)
		rf_flow_insert6(key, flow);
	else
		rf_flow_insert4(key, flow);
}

static __always_inline void rf_flow_add(const struct rf_flow_key *key, __u32 gen, __u8 flags, __u64 now, bool six)
{
	struct rf_flow flow = { .seen = now, .gen = gen, .flags = flags };

	rf_flow_put(key, &flow, six);
}
