/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Flows that this CPU saw a moment ago. Most packets are the next of such a one, change nothing that is remembered of it, and so need
 * no look-up among all flows, whose lines are cold more often than not. A packet that is found here is one that would pass there: the
 * generation is part of what is compared, so a change of policy counts here from the same store on.
 *
 * What is kept here is good for a moment only. Then one packet goes the long way, by which the flow is noted as seen, counts as used
 * where the least recent ones are forgotten, and ends if user space took it away.
 *
 * No two programs use a CPU's part at once: packets are handled with softirqs disabled.
 */
#pragma once

#include <bpf/bpf_endian.h>

#include "endpoint.h"
#include "parse.h"

#define RF_MOMENT 100 /* jiffies: 0.1 to 1 s */
#define RF_RECENT_BITS 10

/* A flow that this CPU saw a moment ago. */
struct rf_recent {
	__u64 flow;
	__u64 peer;
	__u64 since; /* jiffies */
	__u64 real; /* where it goes behind a Service, if policy was asked about that and allows it; else 0 */
};

/* Not pinned: a moment later it is full again. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1 << RF_RECENT_BITS);
	__type(key, __u32);
	__type(value, struct rf_recent);
} recent SEC(".maps");

/* What a packet is told by. Where two flows have the same place, the later one has it. */
struct rf_recent_key {
	__u64 flow; /* interface and ports */
	__u64 peer; /* address, protocol and generation */
};

static __always_inline struct rf_recent_key rf_recent_key(__u32 ifindex, __be16 local_port, __be16 peer_port, __be32 peer,
							  __u8 protocol, __u32 gen)
{
	struct rf_recent_key key = {
		.flow = (__u64)ifindex << 32 | (__u32)local_port << 16 | peer_port,
		.peer = (__u64)peer << 32 | (__u32)protocol << 24 | gen,
	};

	return key;
}

static __always_inline struct rf_recent *rf_recent_at(const struct rf_recent_key *key)
{
	__u32 index = (key->flow ^ key->peer * 0x9e3779b97f4a7c15ULL) * 0xd6e8feb86659fd93ULL >> (64 - RF_RECENT_BITS);

	return bpf_map_lookup_elem(&recent, &index);
}

static __always_inline struct rf_recent_key rf_recent_key_of(const struct rf_flow_key *key, __u32 gen)
{
	return rf_recent_key(key->ifindex, key->local_port, key->peer_port, key->peer.word[0], key->protocol, gen);
}

/* Says that the next packets of a flow pass, if they say nothing of its beginning or end. */
static __always_inline void rf_recent_add(const struct rf_recent_key *key, __u64 real)
{
	struct rf_recent *place = rf_recent_at(key);

	if (!place)
		return;
	place->flow = key->flow;
	place->peer = key->peer;
	place->since = bpf_jiffies64();
	place->real = real;
}

static __always_inline const struct rf_recent *rf_recent_find(const struct rf_recent_key *key)
{
	const struct rf_recent *place = rf_recent_at(key);

	return place && place->flow == key->flow && place->peer == key->peer &&
			       bpf_jiffies64() - place->since < RF_MOMENT ?
		       place :
		       NULL;
}

/* An address and a port behind a Service; not 0. */
static __always_inline __u64 rf_recent_real(__be32 address, __be16 port)
{
	return (__u64)address << 32 | (__u32)port << 16 | 1;
}

/* The usual form: no options, no fragment, and in the part of the packet that can be read in place. */
struct rf_usual4 {
	struct iphdr ip;
	__be16 source_port;
	__be16 destination_port;
};

/* Whether the packet is the next of such a flow, or of a connection that needs no memory since nothing isolates the pod. */
static __always_inline bool rf_is_recent4(struct __sk_buff *skb, const struct rf_endpoint *endpoint,
					  const struct rf_policy *policy, enum rf_direction direction)
{
	struct rf_usual4 *packet = rf_in_place(skb, ETH_HLEN, sizeof(*packet));
	bool out = direction == RF_EGRESS;
	struct rf_recent_key key;
	__u8 protocol;

	if (!packet || packet->ip.version != 4 || packet->ip.ihl != 5 ||
	    packet->ip.frag_off & bpf_htons(RF_MORE_FRAGMENTS | RF_FRAGMENT_OFFSET))
		return false;
	if (out && packet->ip.saddr != endpoint->address4)
		return false;
	protocol = packet->ip.protocol;
	if (protocol == IPPROTO_TCP) {
		const __u8 *tcp = rf_in_place(skb, ETH_HLEN + sizeof(packet->ip), RF_TCP_READ);

		if (!tcp || tcp[RF_TCP_READ - 1] & (RF_TCP_FIN | RF_TCP_SYN | RF_TCP_RST))
			return false;
		if (!rf_isolated(policy))
			return true;
	} else if (protocol != IPPROTO_UDP) {
		return false;
	}
	key = rf_recent_key(skb->ifindex, out ? packet->source_port : packet->destination_port,
			    out ? packet->destination_port : packet->source_port,
			    out ? packet->ip.daddr : packet->ip.saddr, protocol, policy->gen);
	return rf_recent_find(&key);
}
