/* SPDX-License-Identifier: GPL-2.0 */
/* What policy says of an address and a port: a fixed number of look-ups, however many rules there are. */
#pragma once

#include <bpf/bpf_endian.h>

#include "maps.h"
#include "tree.h"

static __always_inline struct rf_class *rf_prefix_class6(const struct rf_address *address)
{
	struct rf_prefix_key prefix = { .length = 128, .address = *address };

	return bpf_map_lookup_elem(&cidr6, &prefix);
}

/* A peer that is no pod is mostly far from all of them, and then need not be looked for among them. */
static __always_inline struct rf_class *rf_pod_class4(const struct rf_address *address)
{
	__u32 near = bpf_ntohl(address->word[0]) >> 16, index = near / 64;
	__u64 *bits = bpf_map_lookup_elem(&near4, &index);

	return bits && *bits >> (near % 64) & 1 ? bpf_map_lookup_elem(&pod4, address) : NULL;
}

/* The class of an address, and by `any` what counts where a ruleset says nothing of that one. */
static __always_inline __u32 rf_class_of(const struct rf_address *address, __u32 side, bool six, __u32 *any)
{
	struct rf_class *class = six ? bpf_map_lookup_elem(&pod6, address) : rf_pod_class4(address);

	side &= RF_SIDES - 1;
	if (class && class->side[side] != RF_CLASS_NONE) {
		*any = RF_CLASS_PODS;
		return class->side[side];
	}
	*any = RF_CLASS_ANYONE;
	class = six ? rf_prefix_class6(address) : rf_prefix_class4(address->word[0]);
	return class ? class->side[side] : RF_CLASS_ANYONE;
}

/* The place of a protocol's ports in `pcls`; negative for protocols without ports. */
static __always_inline int rf_ports_at(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return 0;
	case IPPROTO_UDP:
		return 65536;
	case IPPROTO_SCTP:
		return 2 * 65536;
	default:
		return -1;
	}
}

/* Whether it is an address and a port (as on the wire) of a Service. */
static __always_inline bool rf_is_vip(const struct rf_address *address, __be16 port, __u8 protocol, bool six)
{
	struct rf_service_key key;

	if (rf_ports_at(protocol) < 0)
		return false;
	key.port = port;
	key.protocol = protocol;
	key.zero = 0;
	if (six)
		key.address = *address;
	else
		key.address.word[0] = address->word[0];
	return six ? bpf_map_lookup_elem(&vip6, &key) : bpf_map_lookup_elem(&vip4, &key);
}

static __always_inline bool rf_opens(__u32 ruleset, __u32 side, const struct rf_address *address, __u32 protocol,
				     __u32 port, bool six)
{
	struct rf_decision_key key = { .ruleset = ruleset };
	struct rf_decision *decision;
	struct rf_port_set *set;
	__u32 index, any;
	__u64 *class;
	int at;

	if (!ruleset)
		return true;
	key.class = rf_class_of(address, side, six, &any);
	decision = bpf_map_lookup_elem(&dec, &key);
	if (!decision && key.class != any) {
		key.class = any;
		decision = bpf_map_lookup_elem(&dec, &key);
	}
	if (!decision)
		return false;
	if (decision->port_set == RF_PORT_SET_ALL)
		return true;
	at = rf_ports_at(protocol);
	if (at < 0)
		return false;
	index = at + bpf_ntohs(port);
	class = bpf_map_lookup_elem(&pcls, &index);
	set = bpf_map_lookup_elem(&pset, &decision->port_set);
	if (!class || !set)
		return false;
	index = *class & (RF_PORT_CLASSES - 1);
	return set->bits[index / 64] >> (index % 64) & 1;
}

static __noinline bool rf_opens4(__u32 ruleset, __u32 side, const struct rf_address *address, __u32 protocol, __u32 port)
{
	return rf_opens(ruleset, side, address, protocol, port, false);
}

static __noinline bool rf_opens6(__u32 ruleset, __u32 side, const struct rf_address *address, __u32 protocol, __u32 port)
{
	return rf_opens(ruleset, side, address, protocol, port, true);
}

/* Whether a ruleset opens a protocol and a port (as on the wire) to an address. */
static __always_inline bool rf_open(__u32 ruleset, __u32 side, const struct rf_address *address, __u32 protocol,
				    __u32 port, bool six)
{
	return six ? rf_opens6(ruleset, side, address, protocol, port) :
		     rf_opens4(ruleset, side, address, protocol, port);
}
