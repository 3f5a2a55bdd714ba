/* SPDX-License-Identifier: GPL-2.0 */
/* The verdict on an IPv4 packet at a pod's veth. */
#pragma once

#include "conntrack.h"
#include "endpoint.h"
#include "parse.h"
#include "verdict.h"

/* Seen from the pod. */
enum rf_direction { RF_INGRESS, RF_EGRESS };

struct rf_look {
	struct rf_policy policy;
	struct rf_flow_key key;
	struct rf_packet packet;
	__be32 address; /* the pod's */
	__u32 received; /* on which interface the node received it; 0: made by the node itself */
	__u32 via; /* on which it receives what the pod sends */
	__u64 now;
	enum rf_direction direction;
};

static __always_inline bool rf_is_drop(enum rf_reason reason)
{
	return reason >= RF_DROP_INGRESS;
}

static __always_inline bool rf_is_group(__be32 address)
{
	__u32 host = bpf_ntohl(address);

	return host >> 28 == 0xe || host == 0xffffffff;
}

static __always_inline bool rf_is_service(__be32 address, __be16 port, __u8 protocol)
{
	struct rf_service_key key = { .address = address, .port = port, .protocol = protocol };

	return rf_ports_at(protocol) >= 0 && bpf_map_lookup_elem(&vip, &key);
}

/* Whether policy lets the pod open this flow. */
static __always_inline bool rf_open_out(const struct rf_look *look)
{
	return rf_open(look->policy.egress, look->policy.side, look->key.peer, look->key.protocol,
		       look->key.peer_port);
}

/* Whether policy lets the peer open it. */
static __always_inline bool rf_open_in(const struct rf_look *look)
{
	return rf_open(look->policy.ingress, look->policy.side, look->key.peer, look->key.protocol,
		       look->key.local_port);
}

static __always_inline enum rf_reason rf_remember(const struct rf_look *look, __u8 flags, enum rf_reason reason)
{
	rf_flow_add(&look->key, look->policy.gen, flags, look->now);
	return reason;
}

/*
 * A flow to a Service is let out before its real destination is known, so what comes back waits for that: netfilter's
 * program marks the flow as judged. A TCP segment in mid-connection may pass, since no connection gets there unjudged,
 * and one that lives on while its pod becomes isolated must not stall.
 */
static __always_inline bool rf_is_answer_before_verdict(const struct rf_look *look, __u8 flags)
{
	return look->direction == RF_INGRESS && (flags & (RF_FLOW_DEFERRED | RF_FLOW_JUDGED)) == RF_FLOW_DEFERRED &&
	       look->packet.role != RF_CONTINUES;
}

/* Policy changed since the flow was judged: again, in the direction in which it was opened. */
static __always_inline bool rf_still_open(const struct rf_look *look, struct rf_flow *flow)
{
	if (flow->flags & (RF_FLOW_NODE | RF_FLOW_SELF))
		return true;
	if (flow->flags & RF_FLOW_BY_PEER)
		return rf_open_in(look);
	if (flow->flags & RF_FLOW_JUDGED)
		return rf_open(look->policy.egress, look->policy.side, flow->real_address, look->key.protocol,
			       flow->real_port);
	if (look->policy.egress && rf_is_service(look->key.peer, look->key.peer_port, look->key.protocol)) {
		flow->flags |= RF_FLOW_DEFERRED;
		return !rf_is_answer_before_verdict(look, flow->flags);
	}
	return rf_open_out(look);
}

static __always_inline enum rf_reason rf_known_flow(const struct rf_look *look, struct rf_flow *flow)
{
	if (flow->gen == look->policy.gen) {
		if (rf_is_answer_before_verdict(look, flow->flags))
			return RF_DROP_REPLY;
		rf_flow_touch(flow, look->now);
		return RF_PASS_ESTABLISHED;
	}
	/* The entry of a flow that is cut stays: it says who opened it, which a packet in mid-connection does not. */
	if (!rf_still_open(look, flow))
		return RF_DROP_CUT;
	flow->gen = look->policy.gen;
	rf_flow_touch(flow, look->now);
	return RF_PASS_REJUDGED;
}

static __always_inline enum rf_reason rf_new_out(const struct rf_look *look)
{
	if (look->key.peer == look->address)
		return RF_PASS_SELF;
	if (look->policy.egress && rf_is_service(look->key.peer, look->key.peer_port, look->key.protocol))
		return rf_remember(look, RF_FLOW_DEFERRED, RF_PASS_DEFERRED);
	if (rf_open_out(look))
		return rf_remember(look, 0, RF_PASS_NEW);
	if (look->packet.role != RF_OPENS && rf_open_in(look))
		return rf_remember(look, RF_FLOW_BY_PEER, RF_PASS_PICKED_UP);
	return RF_DROP_EGRESS;
}

/*
 * Whether it is what the pod sent to itself, through a Service: it comes back with an address of the node for a source. Where the
 * pod has a way of its own to the node, that tells. Behind a bridge, others come the same way; but they come with a
 * pod's address, and if the node hides that too, it cannot give them the ports of a flow that it hides already.
 */
static __always_inline bool rf_is_self(const struct rf_look *look, __u32 ifindex)
{
	struct rf_flow_key key = look->key;
	struct rf_flow *expected;

	if (look->key.peer == look->address || look->received == ifindex)
		return true;
	if (look->received != look->via || bpf_map_lookup_elem(&local4, &look->key.peer))
		return false;
	key.peer = look->address;
	expected = bpf_map_lookup_elem(&ct4, &key);
	return expected && expected->flags & RF_FLOW_SELF && (__s64)(look->now - expected->seen) < (__s64)RF_SECOND;
}

static __always_inline enum rf_reason rf_new_in(const struct rf_look *look, __u32 ifindex)
{
	if (!look->received)
		return rf_remember(look, RF_FLOW_BY_PEER | RF_FLOW_NODE, RF_PASS_NODE);
	if (rf_is_self(look, ifindex))
		return rf_remember(look, RF_FLOW_BY_PEER | RF_FLOW_SELF, RF_PASS_SELF);
	if (rf_open_in(look))
		return rf_remember(look, RF_FLOW_BY_PEER, RF_PASS_NEW);
	if (look->packet.role == RF_OPENS)
		return RF_DROP_INGRESS;
	if (look->policy.egress && rf_is_service(look->key.peer, look->key.peer_port, look->key.protocol))
		return look->packet.role == RF_CONTINUES ?
			       rf_remember(look, RF_FLOW_DEFERRED, RF_PASS_PICKED_UP) :
			       RF_DROP_REPLY;
	return rf_open_out(look) ? rf_remember(look, 0, RF_PASS_PICKED_UP) : RF_DROP_INGRESS;
}

static __always_inline enum rf_reason rf_judge(const struct rf_look *look, __u32 ifindex)
{
	struct rf_flow *flow = rf_flow_find(&look->key, look->now);
	enum rf_role role = look->packet.role;

	if (flow) {
		bool by_peer = flow->flags & RF_FLOW_BY_PEER;
		bool against = by_peer == (look->direction == RF_EGRESS);
		bool connects = look->key.protocol == IPPROTO_TCP || look->key.protocol == IPPROTO_ICMP;

		if (role == RF_REPORTS)
			return flow->gen == look->policy.gen || rf_still_open(look, flow) ? RF_PASS_RELATED :
											    RF_DROP_CUT;
		/* A new connection by the other side, on the ports of one that was: no answer in that one. */
		if (!(role == RF_OPENS && connects && against))
			return rf_known_flow(look, flow);
	}
	switch (role) {
	case RF_FOLLOWS:
		return rf_isolated(&look->policy) ? RF_DROP_FRAGMENT : RF_PASS_NEW;
	case RF_ANSWERS:
	case RF_REPORTS:
		return rf_isolated(&look->policy) ? RF_DROP_REPLY : RF_PASS_NEW;
	default:
		return look->direction == RF_EGRESS ? rf_new_out(look) : rf_new_in(look, ifindex);
	}
}

static __always_inline enum rf_reason rf_ipv4(struct __sk_buff *skb, const struct rf_endpoint *endpoint,
					      const struct rf_policy *policy, enum rf_direction direction)
{
	struct rf_look look = {
		.policy = *policy,
		.address = endpoint->address,
		.direction = direction,
		.received = direction == RF_INGRESS ? skb->ingress_ifindex : 0,
		.via = endpoint->via,
	};
	struct rf_packet *packet = &look.packet;
	enum rf_parsed parsed = rf_parse4(skb, packet);
	bool out = direction == RF_EGRESS;
	enum rf_reason reason;

	if (parsed == RF_MALFORMED)
		return RF_DROP_MALFORMED;
	/* An ICMP error's addresses are here those of the packet that it is about: the pod's is at the same end. */
	if (out && packet->role != RF_REPORTS && packet->source != look.address &&
	    !(packet->source == 0 && packet->destination == 0xffffffff))
		return RF_DROP_SPOOFED;
	if (rf_is_group(packet->destination))
		return RF_PASS_GROUP;
	/*
	 * Of a pod that nothing isolates, it is remembered who opened a TCP connection, for the day that something does; but its
	 * other segments need no look-up.
	 */
	if (!rf_isolated(policy) && packet->protocol == IPPROTO_TCP && packet->role != RF_OPENS)
		return RF_PASS_ESTABLISHED;
	if (parsed == RF_UNKNOWN_FRAGMENT)
		return rf_isolated(policy) ? RF_DROP_FRAGMENT : RF_PASS_ESTABLISHED;

	look.now = bpf_ktime_get_coarse_ns();
	look.key.ifindex = skb->ifindex;
	look.key.protocol = packet->protocol;
	look.key.peer = out ? packet->destination : packet->source;
	look.key.local_port = out ? packet->source_port : packet->destination_port;
	look.key.peer_port = out ? packet->destination_port : packet->source_port;
	reason = rf_judge(&look, skb->ifindex);
	if (packet->first_fragment && !rf_is_drop(reason)) {
		struct rf_fragment_key key = rf_fragment_key(skb->ifindex, packet);
		struct rf_fragment ports = { packet->source_port, packet->destination_port };

		bpf_map_update_elem(&frag, &key, &ports, BPF_ANY);
	}
	return reason;
}
