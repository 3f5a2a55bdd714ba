/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What goes to a Service. At the veth such a packet still carries the Service's address, and passes as *deferred*; here,
 * behind the node's translation, netfilter's own tracking says both what the pod asked for and what it gets. It may get just what
 * it asked for: of a cache of names on its node, or where another than the node translates.
 *
 * Only packets that a pod sends in the direction in which it opened such a flow are judged here; all else was judged at
 * the veth, by the very addresses that policy is about.
 */
#pragma once

#include <bpf/bpf_core_read.h>

#include "conntrack.h"
#include "endpoint.h"
#include "ledger.h"
#include "recent.h"
#include "verdict.h"

#define RF_CT_INFO 7UL
#define RF_CT_NEW 2 /* the first packet */
#define RF_CT_IS_REPLY 3 /* this and above: answers */
#define RF_CT_UNTRACKED 7
#define RF_CT_DST_NAT (1UL << 5) /* IPS_DST_NAT of the kernel's user-space interface */

/*
 * A pod that reaches itself through a Service gets its own packet back with an address of the node for a source. The veth's
 * program is told here to expect one.
 */
static __always_inline void rf_expect_self(struct rf_flow_key key, const struct rf_address *address, __be16 port,
					   __u32 gen, bool six)
{
	key.peer = *address;
	key.peer_port = key.local_port;
	key.local_port = port;
	rf_flow_add(&key, gen, RF_FLOW_BY_PEER | RF_FLOW_SELF, bpf_ktime_get_ns(), six);
}

/* By the pod behind the Service, which is what policy is about. */
static __always_inline void rf_deny_service(const struct rf_flow_key *key, const struct rf_address *real, __be16 port,
					    bool six)
{
	struct rf_denial denial = {
		.ifindex = key->ifindex,
		.direction = RF_EGRESS,
		.reason = RF_DROP_SERVICE,
		.protocol = key->protocol,
		.family = six ? AF_INET6 : AF_INET,
		.port = port,
		.peer = *real,
	};

	rf_record(&denial, bpf_ktime_get_ns());
}

/* What a pod asks for of a Service, and what it gets. */
struct rf_request {
	struct rf_address source, asked, real;
	__be16 source_port, asked_port, real_port;
	__u8 protocol;
};

static __always_inline bool rf_is_asked_of_service(const struct rf_request *request, bool six)
{
	return rf_is_vip(&request->asked, request->asked_port, request->protocol, six);
}

/* The endpoint of the pod that has an address, if it is that pod that sent: another may borrow the address. */
static __always_inline struct rf_endpoint *rf_endpoint_from(__u32 received, const struct rf_address *source, bool six)
{
	struct rf_endpoint *endpoint = rf_endpoint_of(received);
	__u32 *ifindex;

	/* Mostly the packet comes by the pod's own veth. */
	if (endpoint && endpoint->ifindex == received &&
	    (six ? rf_is_same(&endpoint->address6, source, true) : endpoint->address4 == source->word[0]))
		return endpoint;
	ifindex = rf_veth_of(source, six);
	endpoint = ifindex ? rf_endpoint_of(*ifindex) : NULL;
	return endpoint && endpoint->ifindex == *ifindex && (received == endpoint->via || received == *ifindex) ? endpoint :
														 NULL;
}

static __always_inline int rf_judge_request(__u32 received, const struct rf_request *request, bool six)
{
	struct rf_endpoint *endpoint = rf_endpoint_from(received, &request->source, six);
	struct rf_flow_key key = {};
	struct rf_policy policy;
	struct rf_flow *flow;
	__u8 flags;

	if (!endpoint || !rf_read_policy(endpoint, endpoint->ifindex, &policy) || !rf_isolated(&policy))
		return NF_ACCEPT;

	flags = RF_FLOW_DEFERRED | RF_FLOW_JUDGED;
	if (rf_is_same(&request->real, &request->source, six))
		flags |= RF_FLOW_SELF;
	else if (!policy.egress)
		return NF_ACCEPT;
	key.ifindex = endpoint->ifindex;
	key.peer = request->asked;
	key.local_port = request->source_port;
	key.peer_port = request->asked_port;
	key.protocol = request->protocol;

	if (!six) {
		struct rf_recent_key recent = rf_recent_key_of(&key, policy.gen);
		const struct rf_recent *place = rf_recent_find(&recent);

		if (place && place->real == rf_recent_real(request->real.word[0], request->real_port))
			return NF_ACCEPT;
	}
	flow = rf_flow_at(&key, six);
	if (flow && flow->flags & RF_FLOW_JUDGED && flow->gen == policy.gen && flow->real_port == request->real_port &&
	    rf_is_same(&flow->real_address, &request->real, six))
		return NF_ACCEPT;
	if (!(flags & RF_FLOW_SELF) &&
	    !rf_open(policy.egress, policy.side, &request->real, key.protocol, request->real_port, six)) {
		if (flow)
			flow->flags &= ~RF_FLOW_JUDGED;
		rf_count(RF_DROP_SERVICE);
		rf_deny_service(&key, &request->real, request->real_port, six);
		return NF_DROP;
	}
	if (flow) {
		if (six)
			flow->real_address = request->real;
		else
			flow->real_address.word[0] = request->real.word[0];
		flow->real_port = request->real_port;
		flow->gen = policy.gen;
		flow->flags = flags;
	} else {
		struct rf_flow fresh = {
			.seen = bpf_ktime_get_ns(), /* the coarse clock is not for programs of this type */
			.gen = policy.gen,
			.real_address = request->real,
			.real_port = request->real_port,
			.flags = flags,
		};

		rf_flow_put(&key, &fresh, six);
	}
	if (flags & RF_FLOW_SELF)
		rf_expect_self(key, &request->source, request->real_port, policy.gen, six);
	rf_count(RF_PASS_NEW);
	return NF_ACCEPT;
}

/* Half of what netfilter tracks, as this kernel lays it out. */
struct rf_tuple {
	__u64 words[6];
};

/*
 * In one piece: to read each field by itself is most of what this program costs. What can't be read so (by a kernel that lays it out larger)
 * is not judged, and so not marked as judged: no answer to it gets through to the pod.
 */
static __always_inline const struct nf_conntrack_tuple *rf_read_tuple(struct rf_tuple *copy,
								      const struct nf_conntrack_tuple *tuple)
{
	__u32 size = bpf_core_type_size(struct nf_conntrack_tuple);

	if (size > sizeof(*copy) || bpf_probe_read_kernel(copy, size, tuple))
		return NULL;
	return (const void *)copy;
}

static __always_inline void rf_take_address(struct rf_address *address, const union nf_inet_addr *from, bool six)
{
	address->word[0] = from->all[0];
	if (six) {
		address->word[1] = from->all[1];
		address->word[2] = from->all[2];
		address->word[3] = from->all[3];
	}
}

/* What netfilter tracks. A flow that is not translated is to whom it says: that has to be judged too, since the veth let it out. */
static __always_inline int rf_judge_tracked(__u32 received, struct nf_conn *ct, bool translated, bool six)
{
	const struct nf_conntrack_tuple *tuple;
	struct rf_request request = {};
	struct rf_tuple copy;

	tuple = rf_read_tuple(&copy, &ct->tuplehash[0].tuple);
	if (!tuple)
		return NF_ACCEPT;
	rf_take_address(&request.asked, &tuple->dst.u3, six);
	request.asked_port = tuple->dst.u.all;
	request.protocol = tuple->dst.protonum;
	if (!translated && !rf_is_asked_of_service(&request, six))
		return NF_ACCEPT;
	rf_take_address(&request.source, &tuple->src.u3, six);
	request.source_port = tuple->src.u.all;
	tuple = rf_read_tuple(&copy, &ct->tuplehash[1].tuple);
	if (!tuple)
		return NF_ACCEPT;
	rf_take_address(&request.real, &tuple->src.u3, six);
	request.real_port = tuple->src.u.all;
	return rf_judge_request(received, &request, six);
}

/* Functions of their own: few packets get here, and what comes before shall need little stack. */
static __noinline int rf_judge_tracked4(__u32 received, unsigned long ct, bool translated)
{
	return rf_judge_tracked(received, (struct nf_conn *)ct, translated, false);
}

static __noinline int rf_judge_tracked6(__u32 received, unsigned long ct, bool translated)
{
	return rf_judge_tracked(received, (struct nf_conn *)ct, translated, true);
}

/*
 * What netfilter does not track, and the node takes in: a cache of names on every node is set up so, at the address of the Service
 * that it stands for. By then fragments are one packet again.
 */
static __always_inline int rf_judge_untracked(struct bpf_nf_ctx *ctx, __u32 received, bool six)
{
	unsigned char *head = BPF_CORE_READ(ctx, skb, head);
	unsigned char *network = head + BPF_CORE_READ(ctx, skb, network_header);
	unsigned char *transport = head + BPF_CORE_READ(ctx, skb, transport_header);
	struct rf_request request = {};
	__be16 ports[2];

	if (six) {
		struct ipv6hdr ip;

		if (bpf_probe_read_kernel(&ip, sizeof(ip), network))
			return NF_ACCEPT;
		request.source = ip.saddr;
		request.asked = ip.daddr;
		request.protocol = ip.nexthdr;
	} else {
		struct iphdr ip;

		if (bpf_probe_read_kernel(&ip, sizeof(ip), network))
			return NF_ACCEPT;
		request.source.word[0] = ip.saddr;
		request.asked.word[0] = ip.daddr;
		request.protocol = ip.protocol;
	}
	if (rf_ports_at(request.protocol) < 0 || bpf_probe_read_kernel(ports, sizeof(ports), transport))
		return NF_ACCEPT;
	request.source_port = ports[0];
	request.asked_port = ports[1];
	if (!rf_is_asked_of_service(&request, six))
		return NF_ACCEPT;
	request.real = request.asked;
	request.real_port = request.asked_port;
	return rf_judge_request(received, &request, six);
}

static __noinline int rf_judge_untracked4(struct bpf_nf_ctx *ctx, __u32 received)
{
	return rf_judge_untracked(ctx, received, false);
}

static __noinline int rf_judge_untracked6(struct bpf_nf_ctx *ctx, __u32 received)
{
	return rf_judge_untracked(ctx, received, true);
}

static __always_inline int rf_service(struct bpf_nf_ctx *ctx)
{
	unsigned long tracked = ctx->skb->_nfct, place = tracked & RF_CT_INFO;
	struct nf_conn *ct = (struct nf_conn *)(tracked & ~RF_CT_INFO);
	const struct net_device *in = ctx->state->in;
	bool six = ctx->state->pf == AF_INET6, translated;

	/* What a pod sends comes by its veth or a bridge: neither is an interface without a kind, as most uplinks are. */
	if (!in || !in->rtnl_link_ops)
		return NF_ACCEPT;
	if (!ct || place == RF_CT_UNTRACKED) {
		if (ctx->state->hook != NF_INET_LOCAL_IN)
			return NF_ACCEPT;
		return six ? rf_judge_untracked6(ctx, in->ifindex) : rf_judge_untracked4(ctx, in->ifindex);
	}
	if (place >= RF_CT_IS_REPLY)
		return NF_ACCEPT;
	translated = BPF_CORE_READ(ct, status) & RF_CT_DST_NAT;
	if (!translated && place != RF_CT_NEW)
		return NF_ACCEPT;
	return six ? rf_judge_tracked6(in->ifindex, (unsigned long)ct, translated) :
		     rf_judge_tracked4(in->ifindex, (unsigned long)ct, translated);
}
