// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel side of the enforcer: a program at each direction of a pod's veth (tc, clsact), and one at netfilter's FORWARD and
 * LOCAL_IN that judges what goes to a Service by its real destination, and closes veths that nobody looked at yet. See ../datapath/mod.rs for the whole.
 */
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "newborn.h"
#include "recent.h"
#include "service.h"
#include "veth.h"

char LICENSE[] SEC("license") = "GPL";

/* Keeps the enumerations in the object's BTF, where user space reads them. */
const volatile enum rf_reason rf_reason_names = RF_REASONS;
const volatile enum rf_tally rf_tally_names = RF_COUNTS;
const volatile enum rf_direction rf_direction_names = RF_EGRESS;
const volatile enum rf_flow_flags rf_flow_flag_names = RF_FLOW_BY_PEER;
const volatile enum rf_tree_kind rf_tree_kind_names = RF_TREE_ASK;
const volatile enum rf_endpoint_flags rf_endpoint_flag_names = RF_ENDPOINT_LAX;

/* A pod needs its neighbours, and its address confirmed, before anybody knows it. */
static __noinline enum rf_reason rf_pending6(struct __sk_buff *skb, enum rf_direction direction)
{
	struct rf_packet packet = {};
	struct rf_header header = {};
	__u8 type;

	if (rf_parse_header6(skb, ETH_HLEN, &packet, &header) != RF_PARSED)
		return RF_DROP_PENDING;
	type = rf_neighbour_type(skb, &packet, &header);
	return type && !(direction == RF_EGRESS && rf_is_routers(type)) ? RF_PASS_NEIGHBOUR : RF_DROP_PENDING;
}

/* What becomes of the packet. The proof's does not count, also when its rows are gone: its namespaces end later than they. */
static __always_inline int rf_carry_out(struct __sk_buff *skb, enum rf_reason reason)
{
	if (skb->ifindex != RF_CANARY)
		rf_count(reason);
	return rf_is_drop(reason) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

static __always_inline int rf_packet_at_veth(struct __sk_buff *skb, enum rf_direction direction)
{
	struct rf_endpoint *endpoint = rf_endpoint_of(skb->ifindex);
	enum rf_reason reason;
	struct rf_policy policy;
	bool known;

	/* A veth has filters only as long as it has a place here: this is one that is going, or has become another. */
	if (!endpoint)
		return rf_carry_out(skb, RF_DROP_PENDING);
	known = rf_read_policy(endpoint, skb->ifindex, &policy);
	if (known && skb->protocol == bpf_htons(ETH_P_IP) && rf_is_recent4(skb, endpoint, &policy, direction))
		return rf_carry_out(skb, RF_PASS_ESTABLISHED);
	switch (skb->protocol) {
	case bpf_htons(ETH_P_ARP):
		reason = known && direction == RF_EGRESS && !rf_claims_own4(skb, endpoint, &policy) ? RF_DROP_SPOOFED :
												      RF_PASS_NEIGHBOUR;
		break;
	case bpf_htons(ETH_P_IP):
		reason = known ? rf_ipv4(skb, endpoint, &policy, direction) : RF_DROP_PENDING;
		break;
	case bpf_htons(ETH_P_IPV6):
		reason = known ? rf_ipv6(skb, endpoint, &policy, direction) : rf_pending6(skb, direction);
		break;
	default:
		if (known && !rf_isolated(&policy))
			return TC_ACT_UNSPEC;
		reason = known ? RF_DROP_NOT_IP : RF_DROP_PENDING;
	}
	return rf_carry_out(skb, reason);
}

/* At the veth's ingress on the host: what the pod sends. */
SEC("tc")
int rf_from_pod(struct __sk_buff *skb)
{
	return rf_packet_at_veth(skb, RF_EGRESS);
}

/* At the veth's egress on the host: what goes to the pod. */
SEC("tc")
int rf_to_pod(struct __sk_buff *skb)
{
	return rf_packet_at_veth(skb, RF_INGRESS);
}

/* Attached nowhere: sends the frame that it is run on out of the frame's interface, for user space, which so needs no raw sockets. */
SEC("tc")
int rf_send(struct __sk_buff *skb)
{
	return bpf_clone_redirect(skb, skb->ifindex, 0);
}

/* Where the node forwards, and where it takes in: after it has translated a Service's address. */
SEC("netfilter")
int rf_translated(struct bpf_nf_ctx *ctx)
{
	if (rf_is_newborn(ctx->state->in) || rf_is_newborn(ctx->state->out)) {
		rf_count(RF_DROP_PENDING);
		return NF_DROP;
	}
	return rf_service(ctx);
}
