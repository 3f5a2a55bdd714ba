/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Veths that nobody looked at. User space hears of a new interface within a millisecond, if it is scheduled; on a busy node, or while
 * there is no agent, a pod could do much until then. So what the node forwards or takes in from a veth, or forwards to it, falls until
 * user space has said that it looked: the veth then has filters of its own, or is no pod's.
 *
 * This sees what is routed. Between two ports of one bridge nothing passes here.
 */
#pragma once

#include <bpf/bpf_core_read.h>

#include "maps.h"

static __always_inline bool rf_is_looked_at(__u32 ifindex)
{
	__u32 armed_at = RF_SEEN_ARMED, index = ifindex & (RF_ENDPOINTS - 1);
	__u64 *which = bpf_map_lookup_elem(&seen, &index), *armed;

	if (which && *which == ifindex)
		return true;
	if (which && *which && bpf_map_lookup_elem(&seen_too, &ifindex))
		return true;
	armed = bpf_map_lookup_elem(&seen, &armed_at);
	return !armed || !*armed;
}

/*
 * Other kinds of interfaces are nobody's to close: a pod's is a veth. Read by what the verifier knows of the device, since this is asked
 * of every packet from or to an uplink, most of which have no kind at all.
 */
static __always_inline bool rf_is_veth(const struct net_device *device)
{
	const struct rtnl_link_ops *kind = device->rtnl_link_ops;
	char name[sizeof("veth")] = {};

	return kind && !bpf_probe_read_kernel(name, sizeof(name), kind->kind) && name[0] == 'v' && name[1] == 'e' &&
	       name[2] == 't' && name[3] == 'h' && !name[4];
}

static __always_inline bool rf_is_newborn(const struct net_device *device)
{
	return device && !rf_is_looked_at(device->ifindex) && rf_is_veth(device);
}
