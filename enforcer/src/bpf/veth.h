/* SPDX-License-Identifier: GPL-2.0 */
/* The verdict on an IP packet at a pod's veth. */
#pragma once

#include "clock.h"
#include "conntrack.h"
#include "endpoint.h"
#include "ledger.h"
#include "parse.h"
#include "recent.h"
#include "verdict.h"

struct rf_look {
	const struct rf_policy *policy;
	struct rf_flow_key key;
	struct rf_packet packet;
	struct rf_address address; /* the pod's, of the packet's family */
	__u32 received; /* on which interface the node received it; 0: made by the node itself */
	__u32 via; /* on which it receives what the pod sends */
	__u64 now;
	enum rf_direction direction;
};

static __always_inline bool rf_is_drop(enum rf_reason reason)
{
	return reason >= RF_DROP_INGRESS;
}

static __always_inline bool rf_is_group(const struct rf_address *address, bool six)
{
	__u32 first = bpf_ntohl(address->word[0]);

	return six ? first >> 24 == 0xff : first >> 28 == 0xe || first == 0xffffffff;
}

static __always_inline bool rf_is_link_local6(const struct rf_address *address)
{
	return bpf_ntohl(address->word[0]) >> 22 == 0xfe80 >> 6;
}

static __always_inline bool rf_is_service(const struct rf_look *look, bool six)
{
	return rf_is_vip(&look->key.peer, look->key.peer_port, look->key.protocol, six);
}

static __always_inline bool rf_is_self_address(const struct rf_look *look, bool six)
{
	return rf_is_same(&look->key.peer, &look->address, six);
}

/* Whether policy lets the pod open this flow. */
static __always_inline bool rf_open_out(const struct rf_look *look, bool six)
{
	return rf_open(look->policy->egress, look->policy->side, &look->key.peer, look->key.protocol,
		       look->key.peer_port, six);
}

/* Whether policy lets the peer open it. */
static __always_inline bool rf_open_in(const struct rf_look *look, bool six)
{
	return rf_open(look->policy->ingress, look->policy->side, &look->key.peer, look->key.protocol,
		       look->key.local_port, six);
}

static __always_inline enum rf_reason rf_remember(const struct rf_look *look, __u8 flags, enum rf_reason reason, bool six)
{
	rf_flow_add(&look->key, look->policy->gen, flags, look->now, six);
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

/* Whether policy lets the pod open it to the pod behind the Service. */
static __always_inline bool rf_open_real(const struct rf_look *look, const struct rf_flow *flow, bool six)
{
	struct rf_address real;

	if (six)
		real = flow->real_address;
	else
		real.word[0] = flow->real_address.word[0];
	return rf_open(look->policy->egress, look->policy->side, &real, look->key.protocol, flow->real_port, six);
}

/* Policy changed since the flow was judged: again, in the direction in which it was opened. */
static __always_inline bool rf_still_open(const struct rf_look *look, struct rf_flow *flow, bool six)
{
	if (flow->flags & (RF_FLOW_NODE | RF_FLOW_SELF))
		return true;
	if (flow->flags & RF_FLOW_BY_PEER)
		return rf_open_in(look, six);
	if (flow->flags & RF_FLOW_JUDGED)
		return rf_open_real(look, flow, six);
	if (look->policy->egress && rf_is_service(look, six)) {
		flow->flags |= RF_FLOW_DEFERRED;
		return !rf_is_answer_before_verdict(look, flow->flags);
	}
	return rf_open_out(look, six);
}

/* How far a TCP connection has come: by that user space knows which ones nobody needs to remember any more. */
static __always_inline void rf_follow_tcp(const struct rf_look *look, struct rf_flow *flow)
{
	__u8 flags = flow->flags;

	if (look->key.protocol != IPPROTO_TCP)
		return;
	if (look->packet.role == RF_OPENS)
		flags &= ~(RF_FLOW_ANSWERED | RF_FLOW_CLOSED);
	else if (!(flags & RF_FLOW_BY_PEER) == (look->direction == RF_INGRESS))
		flags |= RF_FLOW_ANSWERED;
	if (look->packet.closes)
		flags |= RF_FLOW_CLOSED;
	if (flags != flow->flags)
		flow->flags = flags;
}

/*
 * Whether the next packets of a flow pass as this one does, and change nothing. Not what the node opened: it matters who sends it.
 * Of connections, what is between opening and end; of anything else, not what waits for a verdict.
 */
static __always_inline bool rf_goes_on(const struct rf_look *look, const struct rf_flow *flow)
{
	if (look->key.protocol == IPPROTO_TCP)
		return look->packet.role == RF_CONTINUES &&
		       (flow->flags & (RF_FLOW_NODE | RF_FLOW_ANSWERED | RF_FLOW_CLOSED)) == RF_FLOW_ANSWERED;
	return look->key.protocol == IPPROTO_UDP && !(flow->flags & RF_FLOW_NODE) &&
	       (flow->flags & (RF_FLOW_DEFERRED | RF_FLOW_JUDGED)) != RF_FLOW_DEFERRED;
}

static __always_inline enum rf_reason rf_known_flow(const struct rf_look *look, struct rf_flow *flow, bool six)
{
	if (flow->gen == look->policy->gen) {
		if (rf_is_answer_before_verdict(look, flow->flags))
			return RF_DROP_REPLY;
		rf_follow_tcp(look, flow);
		rf_flow_touch(flow, look->now);
		if (!six && rf_goes_on(look, flow)) {
			struct rf_recent_key key = rf_recent_key_of(&look->key, look->policy->gen);

			rf_recent_add(&key, flow->flags & RF_FLOW_JUDGED ?
						    rf_recent_real(flow->real_address.word[0], flow->real_port) :
						    0);
		}
		return RF_PASS_ESTABLISHED;
	}
	/* The entry of a flow that is cut stays: it says who opened it, which a packet in mid-connection does not. */
	if (!rf_still_open(look, flow, six))
		return RF_DROP_CUT;
	flow->gen = look->policy->gen;
	rf_flow_touch(flow, look->now);
	return RF_PASS_REJUDGED;
}

static __always_inline enum rf_reason rf_new_out(const struct rf_look *look, bool six)
{
	if (rf_is_self_address(look, six))
		return RF_PASS_SELF;
	if (look->policy->egress && rf_is_service(look, six))
		return rf_remember(look, RF_FLOW_DEFERRED, RF_PASS_DEFERRED, six);
	if (rf_open_out(look, six))
		return rf_remember(look, 0, RF_PASS_NEW, six);
	if (look->packet.role != RF_OPENS && rf_open_in(look, six))
		return rf_remember(look, RF_FLOW_BY_PEER, RF_PASS_PICKED_UP, six);
	return RF_DROP_EGRESS;
}

/*
 * Whether it is what the pod sent to itself, through a Service: it comes back with an address of the node for a source. Where the
 * pod has a way of its own to the node, that tells. Behind a bridge, others come the same way; but they come with a
 * pod's address, and if the node hides that too, it cannot give them the ports of a flow that it hides already.
 */
static __always_inline bool rf_is_self(const struct rf_look *look, __u32 ifindex, bool six)
{
	struct rf_flow_key key = look->key;
	struct rf_flow *expected;

	if (rf_is_self_address(look, six) || look->received == ifindex)
		return true;
	if (look->received != look->via || rf_veth_of(&look->key.peer, six))
		return false;
	key.peer = look->address;
	expected = rf_flow_at(&key, six);
	return expected && expected->flags & RF_FLOW_SELF && (__s64)(look->now - expected->seen) < (__s64)RF_SECOND;
}

static __always_inline enum rf_reason rf_new_in(const struct rf_look *look, __u32 ifindex, bool six)
{
	if (!look->received)
		return rf_remember(look, RF_FLOW_BY_PEER | RF_FLOW_NODE, RF_PASS_NODE, six);
	if (rf_is_self(look, ifindex, six))
		return rf_remember(look, RF_FLOW_BY_PEER | RF_FLOW_SELF, RF_PASS_SELF, six);
	if (rf_open_in(look, six))
		return rf_remember(look, RF_FLOW_BY_PEER, RF_PASS_NEW, six);
	if (look->packet.role == RF_OPENS)
		return RF_DROP_INGRESS;
	if (look->policy->egress && rf_is_service(look, six))
		return look->packet.role == RF_CONTINUES ?
			       rf_remember(look, RF_FLOW_DEFERRED, RF_PASS_PICKED_UP, six) :
			       RF_DROP_REPLY;
	return rf_open_out(look, six) ? rf_remember(look, 0, RF_PASS_PICKED_UP, six) : RF_DROP_INGRESS;
}

static __always_inline enum rf_reason rf_judge(const struct rf_look *look, __u32 ifindex, bool six)
{
	struct rf_flow *flow = rf_flow_find(&look->key, look->now, six);
	enum rf_role role = look->packet.role;

	if (flow) {
		bool by_peer = flow->flags & RF_FLOW_BY_PEER;
		bool against = by_peer == (look->direction == RF_EGRESS);
		bool connects = look->key.protocol == IPPROTO_TCP || look->key.protocol == IPPROTO_ICMP ||
				look->key.protocol == IPPROTO_ICMPV6;

		if (role == RF_REPORTS)
			return flow->gen == look->policy->gen || rf_still_open(look, flow, six) ? RF_PASS_RELATED :
											    RF_DROP_CUT;
		/*
		 * What the node opened passes because nobody but the node could: what it forwards, by the same ports, is another's. A new
		 * connection by the other side, on the ports of one that was, is no answer in that one. What needs no connection might be:
		 * it belongs to the flow, also if that is cut, or an answer under way would open it again from the other side.
		 */
		if (!(flow->flags & RF_FLOW_NODE && look->direction == RF_INGRESS && look->received) &&
		    !(role == RF_OPENS && connects && against))
			return rf_known_flow(look, flow, six);
	}
	switch (role) {
	case RF_FOLLOWS:
		return rf_isolated(look->policy) ? RF_DROP_FRAGMENT : RF_PASS_NEW;
	case RF_ANSWERS:
	case RF_REPORTS:
		return rf_isolated(look->policy) ? RF_DROP_REPLY : RF_PASS_NEW;
	default:
		/* Nobody knows who opened it, and nobody has to. */
		if (!rf_isolated(look->policy) && role != RF_OPENS)
			return RF_PASS_ESTABLISHED;
		return look->direction == RF_EGRESS ? rf_new_out(look, six) : rf_new_in(look, ifindex, six);
	}
}

/* Whether what a pod sends comes from an address that may be its own. */
static __always_inline bool rf_is_own_source(const struct rf_look *look, bool lax, bool six)
{
	const struct rf_packet *packet = &look->packet;

	if (rf_is_same(&packet->source, &look->address, six))
		return true;
	if (six && rf_is_link_local6(&packet->source))
		return true; /* whoever has which, it does not leave the link */
	if (!six && !packet->source.word[0] && packet->destination.word[0] == 0xffffffff)
		return true; /* DHCP's first message */
	if (rf_isolated(look->policy))
		return false;
	/* A pod that has no address of this family as far as the API knows may have one all the same. */
	return lax || !(look->address.word[0] | (six ? look->address.word[1] : 0));
}

/* Whether what a pod tells its neighbours of is an address that may be its own; else they would send it what is another pod's. */
static __always_inline bool rf_claims_own6(struct __sk_buff *skb, const struct rf_look *look, __u32 at)
{
	struct rf_address target;

	if (bpf_skb_load_bytes(skb, at + RF_ADVERTISED, &target, sizeof(target)))
		return false;
	return rf_is_same(&target, &look->address, true) || rf_is_link_local6(&target) ||
	       (!rf_isolated(look->policy) && !(look->address.word[0] | look->address.word[1]));
}

static __always_inline bool rf_claims_own4(struct __sk_buff *skb, const struct rf_endpoint *endpoint,
					   const struct rf_policy *policy)
{
	__be32 sender;

	if (rf_is_lax(endpoint, policy) || (!endpoint->address4 && !rf_isolated(policy)))
		return true;
	if (bpf_skb_load_bytes(skb, ETH_HLEN + RF_ARP_SENDER, &sender, sizeof(sender)))
		return false;
	return !sender || sender == endpoint->address4; /* 0: asks whether an address is taken */
}

static __always_inline enum rf_reason rf_neighbour(struct __sk_buff *skb, const struct rf_endpoint *endpoint,
						   const struct rf_look *look, __u8 type, __u32 at)
{
	if (look->direction == RF_INGRESS || rf_is_lax(endpoint, look->policy))
		return RF_PASS_NEIGHBOUR;
	if (rf_is_routers(type))
		return RF_DROP_ROUTER;
	return type != RF_ADVERTISEMENT || rf_claims_own6(skb, look, at) ? RF_PASS_NEIGHBOUR : RF_DROP_SPOOFED;
}

static __always_inline enum rf_reason rf_verdict(struct __sk_buff *skb, const struct rf_endpoint *endpoint,
						 const struct rf_policy *policy, enum rf_direction direction,
						 struct rf_look *look, bool six)
{
	struct rf_packet *packet = &look->packet;
	bool out = direction == RF_EGRESS;
	struct rf_header header;
	enum rf_parsed parsed;
	enum rf_reason reason;

	look->policy = policy;
	look->direction = direction;
	look->received = out ? 0 : skb->ingress_ifindex;
	look->via = endpoint->via;
	packet->source_port = packet->destination_port = 0;
	packet->role = RF_OPENS;
	packet->first_fragment = packet->closes = false;
	if (six)
		look->address = endpoint->address6;
	else
		look->address.word[0] = endpoint->address4;
	parsed = rf_parse_header(skb, ETH_HLEN, packet, &header, six);
	if (parsed == RF_MALFORMED)
		return RF_DROP_MALFORMED;
	if (six && parsed == RF_PARSED) {
		__u8 neighbour = rf_neighbour_type(skb, packet, &header);

		if (neighbour)
			return rf_neighbour(skb, endpoint, look, neighbour, header.at);
	}
	if (out && !rf_is_own_source(look, rf_is_lax(endpoint, policy), six))
		return RF_DROP_SPOOFED;
	if (rf_is_group(&packet->destination, six))
		return RF_PASS_GROUP;
	if (parsed == RF_PARSED)
		parsed = rf_parse_transport(skb, &header, packet, six);
	if (!rf_isolated(policy)) {
		/*
		 * Of a pod that nothing isolates, it is remembered who opened a TCP connection, for the day that something does;
		 * but its segments between opening and end need no look-up.
		 */
		if (parsed != RF_PARSED ||
		    (packet->protocol == IPPROTO_TCP && packet->role == RF_CONTINUES && !packet->closes))
			return RF_PASS_ESTABLISHED;
	}
	if (parsed == RF_MALFORMED)
		return RF_DROP_MALFORMED;
	if (parsed == RF_TOO_EXTENDED)
		return RF_DROP_EXTENSIONS;
	if (parsed == RF_UNKNOWN_FRAGMENT)
		return RF_DROP_FRAGMENT;

	look->now = rf_now();
	look->key.ifindex = skb->ifindex;
	look->key.protocol = packet->protocol;
	look->key.zero[0] = look->key.zero[1] = look->key.zero[2] = 0;
	look->key.local_port = out ? packet->source_port : packet->destination_port;
	look->key.peer_port = out ? packet->destination_port : packet->source_port;
	if (six)
		look->key.peer = out ? packet->destination : packet->source;
	else
		look->key.peer.word[0] = out ? packet->destination.word[0] : packet->source.word[0];
	reason = rf_judge(look, skb->ifindex, six);
	if (packet->first_fragment && !rf_is_drop(reason))
		rf_remember_first(skb, &header, packet, six);
	return reason;
}

static __always_inline void rf_deny(struct __sk_buff *skb, const struct rf_look *look, enum rf_reason reason, bool six)
{
	const struct rf_packet *packet = &look->packet;
	bool out = look->direction == RF_EGRESS;
	struct rf_denial denial = {
		.ifindex = skb->ifindex,
		.direction = look->direction,
		.reason = reason,
		.protocol = packet->protocol,
		.family = six ? AF_INET6 : AF_INET,
		.port = rf_ports_at(packet->protocol) < 0 ? 0 : packet->destination_port,
	};

	if (six)
		denial.peer = out ? packet->destination : packet->source;
	else
		denial.peer.word[0] = out ? packet->destination.word[0] : packet->source.word[0];
	rf_record(&denial, rf_now());
}

static __always_inline enum rf_reason rf_ip(struct __sk_buff *skb, const struct rf_endpoint *endpoint,
					    const struct rf_policy *policy, enum rf_direction direction, bool six)
{
	struct rf_look look; /* filled in as far as the family needs it: to clear it all is some of what a packet costs */
	enum rf_reason reason = rf_verdict(skb, endpoint, policy, direction, &look, six);

	/* Of what is malformed it is not known what it is. */
	if (rf_is_drop(reason) && reason != RF_DROP_MALFORMED)
		rf_deny(skb, &look, reason, six);
	return reason;
}

/* Functions of their own: the two families in one would need more stack than there is. */
static __noinline enum rf_reason rf_ipv4(struct __sk_buff *skb, const struct rf_endpoint *endpoint,
					 const struct rf_policy *policy, enum rf_direction direction)
{
	return rf_ip(skb, endpoint, policy, direction, false);
}

static __noinline enum rf_reason rf_ipv6(struct __sk_buff *skb, const struct rf_endpoint *endpoint,
					 const struct rf_policy *policy, enum rf_direction direction)
{
	return rf_ip(skb, endpoint, policy, direction, true);
}
