/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What goes to a Service. At the veth such a packet still carries the Service's address, and passes as *deferred*; here,
 * behind the node's translation, netfilter's own tracking says both what the pod asked for and what it gets.
 *
 * Only packets that a pod sends in the direction in which it opened a translated flow are judged here; all else was judged at
 * the veth, by the very addresses that policy is about.
 */
#pragma once

#include <bpf/bpf_core_read.h>

#include "conntrack.h"
#include "endpoint.h"
#include "ledger.h"
#include "verdict.h"

#define RF_CT_INFO 7UL
#define RF_CT_IS_REPLY 3 /* this and above: answers, and untracked */
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

static __always_inline int rf_judge_service(struct bpf_nf_ctx *ctx, struct nf_conn *ct, bool six)
{
	struct rf_flow_key key = {};
	struct rf_address source, real;
	struct rf_endpoint *endpoint;
	struct rf_policy policy;
	struct net_device *in;
	struct rf_flow *flow;
	__be16 real_port;
	__u32 *ifindex;
	__u32 received;
	__u8 flags;

	BPF_CORE_READ_INTO(&source.word, ct, tuplehash[0].tuple.src.u3.all);
	ifindex = rf_veth_of(&source, six);
	if (!ifindex)
		return NF_ACCEPT;
	endpoint = rf_endpoint_of(*ifindex);
	if (!endpoint || !rf_read_policy(endpoint, *ifindex, &policy) || !rf_isolated(&policy))
		return NF_ACCEPT;
	in = BPF_CORE_READ(ctx, state, in);
	received = BPF_CORE_READ(in, ifindex);
	if (received != endpoint->via && received != endpoint->ifindex)
		return NF_ACCEPT; /* borrows the pod's address */

	BPF_CORE_READ_INTO(&real.word, ct, tuplehash[1].tuple.src.u3.all);
	real_port = BPF_CORE_READ(ct, tuplehash[1].tuple.src.u.all);
	flags = RF_FLOW_DEFERRED | RF_FLOW_JUDGED;
	if (rf_is_same(&real, &source, six))
		flags |= RF_FLOW_SELF;
	else if (!policy.egress)
		return NF_ACCEPT;
	key.ifindex = *ifindex;
	BPF_CORE_READ_INTO(&key.peer.word, ct, tuplehash[0].tuple.dst.u3.all);
	key.local_port = BPF_CORE_READ(ct, tuplehash[0].tuple.src.u.all);
	key.peer_port = BPF_CORE_READ(ct, tuplehash[0].tuple.dst.u.all);
	key.protocol = BPF_CORE_READ(ct, tuplehash[0].tuple.dst.protonum);

	flow = rf_flow_at(&key, six);
	if (flow && flow->flags & RF_FLOW_JUDGED && flow->gen == policy.gen && flow->real_port == real_port &&
	    rf_is_same(&flow->real_address, &real, six))
		return NF_ACCEPT;
	if (!(flags & RF_FLOW_SELF) &&
	    !rf_open(policy.egress, policy.side, &real, key.protocol, real_port, six)) {
		if (flow)
			flow->flags &= ~RF_FLOW_JUDGED;
		rf_count(RF_DROP_SERVICE);
		rf_deny_service(&key, &real, real_port, six);
		return NF_DROP;
	}
	if (flow) {
		if (six)
			flow->real_address = real;
		else
			flow->real_address.word[0] = real.word[0];
		flow->real_port = real_port;
		flow->gen = policy.gen;
		flow->flags = flags;
	} else {
		struct rf_flow fresh = {
			.seen = bpf_ktime_get_ns(), /* the coarse clock is not for programs of this type */
			.gen = policy.gen,
			.real_address = real,
			.real_port = real_port,
			.flags = flags,
		};

		rf_flow_put(&key, &fresh, six);
	}
	if (flags & RF_FLOW_SELF)
		rf_expect_self(key, &source, real_port, policy.gen, six);
	rf_count(RF_PASS_NEW);
	return NF_ACCEPT;
}

static __noinline int rf_judge_service6(struct bpf_nf_ctx *ctx, unsigned long ct)
{
	return rf_judge_service(ctx, (struct nf_conn *)ct, true);
}

static __always_inline int rf_service(struct bpf_nf_ctx *ctx)
{
	unsigned long tracked = ctx->skb->_nfct;
	struct nf_conn *ct = (struct nf_conn *)(tracked & ~RF_CT_INFO);

	if (!ct || (tracked & RF_CT_INFO) >= RF_CT_IS_REPLY)
		return NF_ACCEPT;
	if (!(BPF_CORE_READ(ct, status) & RF_CT_DST_NAT))
		return NF_ACCEPT;
	if (ctx->state->pf == AF_INET6)
		return rf_judge_service6(ctx, (unsigned long)ct);
	return rf_judge_service(ctx, ct, false);
}
