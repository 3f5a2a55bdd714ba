/* SPDX-License-Identifier: GPL-2.0 */
/* The endpoint that a packet belongs to. */
#pragma once

#include "maps.h"

#define RF_RULESET_BITS 20
#define RF_RULESET_MASK ((1U << RF_RULESET_BITS) - 1)

/* One reading of an endpoint: all of a verdict comes from one, or it could mix two policies. */
struct rf_policy {
	__u32 ingress;
	__u32 egress;
	__u32 gen;
	__u32 side;
};

/* An element that is another interface's counts as that of a pod which is not known: two of them are 65536 apart. */
static __always_inline struct rf_endpoint *rf_endpoint_of(__u32 ifindex)
{
	__u32 index = ifindex & (RF_ENDPOINTS - 1);
	struct rf_endpoint *endpoint = bpf_map_lookup_elem(&ep, &index);

	return endpoint && endpoint->ifindex ? endpoint : NULL;
}

/* Whether the pod is known. */
static __always_inline bool rf_read_policy(const struct rf_endpoint *endpoint, __u32 ifindex, struct rf_policy *policy)
{
	__u64 word = endpoint->ifindex == ifindex ? *(volatile const __u64 *)&endpoint->word : 0;

	policy->egress = word & RF_RULESET_MASK;
	policy->ingress = (word >> RF_RULESET_BITS) & RF_RULESET_MASK;
	policy->gen = word >> (2 * RF_RULESET_BITS);
	policy->side = policy->gen & 1;
	return word != 0;
}

static __always_inline bool rf_isolated(const struct rf_policy *policy)
{
	return policy->ingress || policy->egress;
}

/* Whether the pod may send from any address, and claim to be a router. */
static __always_inline bool rf_is_lax(const struct rf_endpoint *endpoint, const struct rf_policy *policy)
{
	return endpoint->flags & RF_ENDPOINT_LAX && !rf_isolated(policy);
}

/* The veth behind which a local pod's address is. */
static __always_inline __u32 *rf_veth_of(const struct rf_address *address, bool six)
{
	return six ? bpf_map_lookup_elem(&local6, address) : bpf_map_lookup_elem(&local4, address);
}
