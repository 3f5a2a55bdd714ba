/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From a packet to what policy is about. Header lengths and fragment offsets are honoured: ports are never read from
 * where they usually are.
 */
#pragma once

#include <bpf/bpf_endian.h>

#include "maps.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "struct iphdr in kernel.h is laid out for little-endian machines"
#endif

#define RF_MORE_FRAGMENTS 0x2000
#define RF_FRAGMENT_OFFSET 0x1fff
#define RF_TCP_SYN 0x02
#define RF_TCP_ACK 0x10

/* What a packet can be to a flow. */
enum rf_role {
	RF_OPENS, /* may be the first of a flow */
	RF_CONTINUES, /* TCP, and not the first of a connection */
	RF_ACCEPTS, /* TCP's SYN and ACK */
	RF_ANSWERS, /* an ICMP answer: only ever the second of a flow */
	RF_REPORTS, /* an ICMP error about a flow: source and destination are those of the packet it is about, swapped */
	RF_FOLLOWS, /* a later fragment */
};

struct rf_packet {
	__be32 source;
	__be32 destination;
	__be16 source_port; /* ICMP: the identifier in both */
	__be16 destination_port;
	__u8 protocol;
	enum rf_role role;
	bool first_fragment;
	__be16 id;
};

enum rf_parsed {
	RF_PARSED,
	RF_MALFORMED,
	RF_UNKNOWN_FRAGMENT,
};

static __always_inline struct rf_fragment_key rf_fragment_key(__u32 ifindex, const struct rf_packet *packet)
{
	return (struct rf_fragment_key){
		.ifindex = ifindex,
		.source = packet->source,
		.destination = packet->destination,
		.id = packet->id,
		.protocol = packet->protocol,
	};
}

static __always_inline bool rf_parse_ports(struct __sk_buff *skb, __u32 at, struct rf_packet *packet)
{
	__be16 ports[2];

	if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return false;
	packet->source_port = ports[0];
	packet->destination_port = ports[1];
	return true;
}

/*
 * The packet that an ICMP error is about, as the flow that it was sent in. Its sender is the error's receiver, so
 * source and destination change places: the error then looks like an answer in that flow.
 */
static __always_inline bool rf_parse_report(struct __sk_buff *skb, __u32 at, struct rf_packet *packet)
{
	struct rf_packet inner = {};
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return false;
	at += ip.ihl * 4;
	if (bpf_ntohs(ip.frag_off) & RF_FRAGMENT_OFFSET)
		return false;
	switch (ip.protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		if (!rf_parse_ports(skb, at, &inner))
			return false;
		break;
	case IPPROTO_ICMP:
		if (bpf_skb_load_bytes(skb, at + 4, &inner.source_port, sizeof(inner.source_port)))
			return false;
		inner.destination_port = inner.source_port;
		break;
	}
	packet->source = ip.daddr;
	packet->destination = ip.saddr;
	packet->protocol = ip.protocol;
	packet->source_port = inner.destination_port;
	packet->destination_port = inner.source_port;
	packet->role = RF_REPORTS;
	return true;
}

static __always_inline bool rf_parse_icmp(struct __sk_buff *skb, __u32 at, struct rf_packet *packet)
{
	struct {
		__u8 type, code;
		__sum16 check;
		__be16 id, sequence;
	} icmp;

	if (bpf_skb_load_bytes(skb, at, &icmp, sizeof(icmp)))
		return false;
	switch (icmp.type) {
	case 3: /* unreachable */
	case 4: /* source quench */
	case 11: /* time exceeded */
	case 12: /* parameter problem */
		return rf_parse_report(skb, at + sizeof(icmp), packet);
	case 0: /* echo */
	case 14: /* timestamp */
	case 16: /* information */
	case 18: /* mask */
		packet->role = RF_ANSWERS;
		break;
	case 8:
	case 13:
	case 15:
	case 17:
		break;
	default:
		return true; /* no identifier */
	}
	packet->source_port = icmp.id;
	packet->destination_port = icmp.id;
	return true;
}

static __always_inline bool rf_parse_tcp(struct __sk_buff *skb, __u32 at, struct rf_packet *packet)
{
	struct {
		__be16 source, destination;
		__be32 sequence, acknowledged;
		__u8 offset, flags;
	} tcp;

	if (bpf_skb_load_bytes(skb, at, &tcp, 14))
		return false;
	packet->source_port = tcp.source;
	packet->destination_port = tcp.destination;
	if (!(tcp.flags & RF_TCP_SYN))
		packet->role = RF_CONTINUES;
	else if (tcp.flags & RF_TCP_ACK)
		packet->role = RF_ACCEPTS;
	return true;
}

static __always_inline enum rf_parsed rf_parse4(struct __sk_buff *skb, struct rf_packet *packet)
{
	struct iphdr ip;
	__u32 at, fragment;
	bool whole = true;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return RF_MALFORMED;
	at = ETH_HLEN + ip.ihl * 4;
	packet->source = ip.saddr;
	packet->destination = ip.daddr;
	packet->protocol = ip.protocol;
	packet->role = RF_OPENS;
	packet->id = ip.id;
	fragment = bpf_ntohs(ip.frag_off);
	if (fragment & RF_FRAGMENT_OFFSET) {
		struct rf_fragment_key key = rf_fragment_key(skb->ifindex, packet);
		struct rf_fragment *first = bpf_map_lookup_elem(&frag, &key);

		/* One that would overwrite TCP's flags is an attack, never a fragment. */
		if (packet->protocol == IPPROTO_TCP && (fragment & RF_FRAGMENT_OFFSET) == 1)
			return RF_MALFORMED;
		packet->role = RF_FOLLOWS;
		if (!first)
			return RF_UNKNOWN_FRAGMENT;
		packet->source_port = first->source_port;
		packet->destination_port = first->destination_port;
		return RF_PARSED;
	}
	packet->first_fragment = fragment & RF_MORE_FRAGMENTS;
	switch (ip.protocol) {
	case IPPROTO_TCP:
		whole = rf_parse_tcp(skb, at, packet);
		break;
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		whole = rf_parse_ports(skb, at, packet);
		break;
	case IPPROTO_ICMP:
		whole = rf_parse_icmp(skb, at, packet);
		break;
	}
	return whole ? RF_PARSED : RF_MALFORMED;
}

/* Whether an IPv6 packet belongs to neighbour discovery or multicast listener discovery, which no policy closes. */
static __always_inline bool rf_is_neighbour6(struct __sk_buff *skb)
{
	struct ipv6hdr ip;
	__u32 at = ETH_HLEN + sizeof(ip);
	__u8 next[2], type;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return false;
	next[0] = ip.nexthdr;
	if (next[0] == 0) { /* listener reports carry the router alert, in hop-by-hop options of 8 bytes */
		if (bpf_skb_load_bytes(skb, at, next, sizeof(next)) || next[1] != 0)
			return false;
		at += 8;
	}
	if (next[0] != IPPROTO_ICMPV6 || bpf_skb_load_bytes(skb, at, &type, sizeof(type)))
		return false;
	return (type >= 130 && type <= 137) || type == 143;
}
