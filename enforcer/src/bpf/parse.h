/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From a packet to what policy is about. Header lengths, extension headers and fragment offsets are honoured: ports are never
 * read from where they usually are.
 */
#pragma once

#include <bpf/bpf_endian.h>

#include "maps.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "struct iphdr in kernel.h is laid out for little-endian machines"
#endif

#define RF_MORE_FRAGMENTS 0x2000
#define RF_FRAGMENT_OFFSET 0x1fff
#define RF_TCP_FIN 0x01
#define RF_TCP_SYN 0x02
#define RF_TCP_RST 0x04
#define RF_TCP_ACK 0x10
#define RF_TCP_READ 14 /* up to and with the flags */

#define RF_ARP_SENDER 14 /* where the sender's IPv4 address is */
#define RF_ADVERTISEMENT 136 /* of a neighbour */
#define RF_ADVERTISED 8 /* where in it the address is that it tells of */

/* How many extension headers are looked through. Senders have two or three at most. */
#define RF_EXTENSIONS 6

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
	struct rf_address source;
	struct rf_address destination;
	__be16 source_port; /* ICMP: the identifier in both */
	__be16 destination_port;
	__u8 protocol;
	enum rf_role role;
	bool first_fragment;
	bool closes; /* TCP's FIN or RST */
};

/* What the headers of IP itself say. */
struct rf_header {
	__u32 at; /* where what follows them begins */
	__be32 id; /* of the fragments */
	__u16 offset; /* of this fragment, in units of 8 bytes */
	bool more; /* fragments come */
	__u8 hop_limit; /* IPv6 only, as the rest */
	bool optioned; /* with hop-by-hop options */
	bool extended; /* with other extension headers */
};

enum rf_parsed {
	RF_PARSED,
	RF_MALFORMED,
	RF_TOO_EXTENDED,
	RF_UNKNOWN_FRAGMENT,
};

static __always_inline struct rf_fragment_key rf_fragment_key(__u32 ifindex, const struct rf_packet *packet, __be32 id,
							      bool six)
{
	struct rf_fragment_key key = {
		.ifindex = ifindex,
		.id = id,
		.family = six ? AF_INET6 : AF_INET,
		.protocol = six ? 0 : packet->protocol,
	};

	if (six) {
		key.source = packet->source;
		key.destination = packet->destination;
	} else {
		key.source.word[0] = packet->source.word[0];
		key.destination.word[0] = packet->destination.word[0];
	}
	return key;
}

/*
 * A header where it is, if it is in the part of the packet that can be read so; that costs less than to copy it. Not behind extension
 * headers: there the verifier would follow too many places where it may be.
 */
static __always_inline void *rf_in_place(struct __sk_buff *skb, __u32 at, __u32 size)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (at > 1024 || data + at + size > end)
		return NULL;
	return data + at;
}

static __always_inline enum rf_parsed rf_parse_header4(struct __sk_buff *skb, __u32 at, struct rf_packet *packet,
						       struct rf_header *header)
{
	struct iphdr copy, *ip = rf_in_place(skb, at, sizeof(copy));
	__u32 fragment;

	if (!ip) {
		if (bpf_skb_load_bytes(skb, at, &copy, sizeof(copy)))
			return RF_MALFORMED;
		ip = &copy;
	}
	if (ip->version != 4 || ip->ihl < 5)
		return RF_MALFORMED;
	header->at = at + ip->ihl * 4;
	header->id = ip->id;
	fragment = bpf_ntohs(ip->frag_off);
	header->offset = fragment & RF_FRAGMENT_OFFSET;
	header->more = fragment & RF_MORE_FRAGMENTS;
	packet->source.word[0] = ip->saddr;
	packet->destination.word[0] = ip->daddr;
	packet->protocol = ip->protocol;
	return RF_PARSED;
}

/*
 * Looks through the extension headers for the protocol. What is not known as one of them is a protocol of its own, which only rules
 * without ports open: so are mobility, HIP, shim6 and "no next header", behind which the kernel looks for nothing either. Behind a
 * later fragment's header there is no header, but the middle of something.
 */
static __always_inline enum rf_parsed rf_parse_header6(struct __sk_buff *skb, __u32 at, struct rf_packet *packet,
						       struct rf_header *header)
{
	bool fragmented = false;
	struct ipv6hdr ip;
	__u8 next;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version_class >> 4 != 6)
		return RF_MALFORMED;
	packet->source = ip.saddr;
	packet->destination = ip.daddr;
	header->hop_limit = ip.hop_limit;
	header->at = at + sizeof(ip);
	header->offset = 0;
	header->more = header->optioned = header->extended = false;
	next = ip.nexthdr;
	for (int i = 0; i <= RF_EXTENSIONS; i++) {
		struct {
			__u8 next, length, reserved, segments_left;
			__be32 id;
		} extension;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_FRAGMENT &&
		    next != IPPROTO_AH && next != IPPROTO_DSTOPTS) {
			packet->protocol = next;
			return RF_PARSED;
		}
		/* Each is 8 bytes long or longer. */
		if (i == RF_EXTENSIONS || bpf_skb_load_bytes(skb, header->at, &extension, sizeof(extension)))
			return i == RF_EXTENSIONS ? RF_TOO_EXTENDED : RF_MALFORMED;
		if (next == IPPROTO_HOPOPTS) {
			if (i)
				return RF_MALFORMED;
			header->optioned = true;
		} else {
			header->extended = true;
		}
		if (next == IPPROTO_FRAGMENT) {
			__u32 fragment = extension.reserved << 8 | extension.segments_left;

			if (fragmented)
				return RF_MALFORMED;
			fragmented = true;
			header->id = extension.id;
			header->offset = fragment >> 3;
			header->more = fragment & 1;
			if (header->offset) {
				packet->protocol = extension.next;
				return RF_PARSED;
			}
			header->at += sizeof(extension);
		} else if (next == IPPROTO_AH) {
			header->at += (extension.length + 2) * 4;
		} else {
			/* It would go on to an address that nobody judged. */
			if (next == IPPROTO_ROUTING && extension.segments_left)
				return RF_TOO_EXTENDED;
			header->at += (extension.length + 1) * 8;
		}
		next = extension.next;
	}
	return RF_TOO_EXTENDED;
}

static __always_inline enum rf_parsed rf_parse_header(struct __sk_buff *skb, __u32 at, struct rf_packet *packet,
						      struct rf_header *header, bool six)
{
	return six ? rf_parse_header6(skb, at, packet, header) : rf_parse_header4(skb, at, packet, header);
}

/*
 * Whether it belongs to neighbour discovery or multicast listener discovery, which no policy closes: only in the form in which those
 * are valid, and never from beyond the link. Its type, or 0.
 */
static __always_inline __u8 rf_neighbour_type(struct __sk_buff *skb, const struct rf_packet *packet,
					      const struct rf_header *header)
{
	__u8 type;

	if (packet->protocol != IPPROTO_ICMPV6 || header->extended ||
	    bpf_skb_load_bytes(skb, header->at, &type, sizeof(type)))
		return 0;
	if (type >= 133 && type <= 137)
		return header->hop_limit == 255 && !header->optioned ? type : 0;
	if ((type >= 130 && type <= 132) || type == 143)
		return header->hop_limit == 1 ? type : 0;
	return 0;
}

/* Router advertisement, redirect: they say where others shall send. */
static __always_inline bool rf_is_routers(__u8 neighbour_type)
{
	return neighbour_type == 134 || neighbour_type == 137;
}

static __always_inline bool rf_parse_ports(struct __sk_buff *skb, __u32 at, struct rf_packet *packet, bool six)
{
	__be16 copy[2], *ports = six ? NULL : rf_in_place(skb, at, sizeof(copy));

	if (!ports) {
		if (bpf_skb_load_bytes(skb, at, copy, sizeof(copy)))
			return false;
		ports = copy;
	}
	packet->source_port = ports[0];
	packet->destination_port = ports[1];
	return true;
}

/*
 * The packet that an ICMP error is about, as the flow that it was sent in. Its sender is the error's receiver, so
 * source and destination change places: the error then looks like an answer in that flow. One that goes to anybody else than that
 * sender is no error, but a way to have something delivered.
 */
static __noinline bool rf_parse_report(struct __sk_buff *skb, __u32 at, struct rf_packet *packet, bool six)
{
	struct rf_packet inner = {};
	struct rf_header header = {};

	if (rf_parse_header(skb, at, &inner, &header, six) != RF_PARSED || header.offset ||
	    !rf_is_same(&packet->destination, &inner.source, six))
		return false;
	switch (inner.protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		if (!rf_parse_ports(skb, header.at, &inner, true))
			return false;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (bpf_skb_load_bytes(skb, header.at + 4, &inner.source_port, sizeof(inner.source_port)))
			return false;
		inner.destination_port = inner.source_port;
		break;
	}
	packet->source = inner.destination;
	packet->destination = inner.source;
	packet->protocol = inner.protocol;
	packet->source_port = inner.destination_port;
	packet->destination_port = inner.source_port;
	packet->role = RF_REPORTS;
	return true;
}

struct rf_icmp {
	__u8 type, code;
	__sum16 check;
	__be16 id, sequence;
};

static __always_inline void rf_identify(const struct rf_icmp *icmp, struct rf_packet *packet)
{
	packet->source_port = icmp->id;
	packet->destination_port = icmp->id;
}

static __always_inline bool rf_parse_icmp4(struct __sk_buff *skb, __u32 at, struct rf_packet *packet)
{
	struct rf_icmp icmp;

	if (bpf_skb_load_bytes(skb, at, &icmp, sizeof(icmp)))
		return false;
	switch (icmp.type) {
	case 3: /* unreachable */
	case 4: /* source quench */
	case 11: /* time exceeded */
	case 12: /* parameter problem */
		return rf_parse_report(skb, at + sizeof(icmp), packet, false);
	case 0: /* echo */
	case 14: /* timestamp */
	case 16: /* information */
	case 18: /* mask */
		packet->role = RF_ANSWERS;
		rf_identify(&icmp, packet);
		break;
	case 8:
	case 13:
	case 15:
	case 17:
		rf_identify(&icmp, packet);
		break;
	default: /* no identifier */
		break;
	}
	return true;
}

static __always_inline bool rf_parse_icmp6(struct __sk_buff *skb, __u32 at, struct rf_packet *packet)
{
	struct rf_icmp icmp;

	if (bpf_skb_load_bytes(skb, at, &icmp, sizeof(icmp)))
		return false;
	switch (icmp.type) {
	case 1: /* unreachable */
	case 2: /* packet too big */
	case 3: /* time exceeded */
	case 4: /* parameter problem */
		return rf_parse_report(skb, at + sizeof(icmp), packet, true);
	case 129: /* echo */
		packet->role = RF_ANSWERS;
		rf_identify(&icmp, packet);
		break;
	case 128:
		rf_identify(&icmp, packet);
		break;
	default: /* no identifier */
		break;
	}
	return true;
}

static __always_inline bool rf_parse_tcp(struct __sk_buff *skb, __u32 at, struct rf_packet *packet, bool six)
{
	struct {
		__be16 source, destination;
		__be32 sequence, acknowledged;
		__u8 offset, flags;
	} copy, *tcp = six ? NULL : rf_in_place(skb, at, RF_TCP_READ);

	if (!tcp) {
		if (bpf_skb_load_bytes(skb, at, &copy, RF_TCP_READ))
			return false;
		tcp = &copy;
	}
	packet->source_port = tcp->source;
	packet->destination_port = tcp->destination;
	packet->closes = tcp->flags & (RF_TCP_FIN | RF_TCP_RST);
	if (!(tcp->flags & RF_TCP_SYN))
		packet->role = RF_CONTINUES;
	else if (tcp->flags & RF_TCP_ACK)
		packet->role = RF_ACCEPTS;
	return true;
}

/* What is in a later fragment, the first one said. */
static __noinline enum rf_parsed rf_parse_follower(struct __sk_buff *skb, const struct rf_header *header,
						   struct rf_packet *packet, bool six)
{
	struct rf_fragment_key key = rf_fragment_key(skb->ifindex, packet, header->id, six);
	struct rf_fragment *first = bpf_map_lookup_elem(&frag, &key);

	packet->role = RF_FOLLOWS;
	/* One that would overwrite TCP's flags is an attack, never a fragment. */
	if ((first ? first->protocol : packet->protocol) == IPPROTO_TCP && header->offset == 1)
		return RF_MALFORMED;
	if (!first)
		return RF_UNKNOWN_FRAGMENT;
	packet->protocol = first->protocol;
	packet->source_port = first->source_port;
	packet->destination_port = first->destination_port;
	return RF_PARSED;
}

/* Keeps for later fragments what only the first one says. */
static __noinline int rf_remember_first(struct __sk_buff *skb, const struct rf_header *header,
					const struct rf_packet *packet, bool six)
{
	struct rf_fragment_key key = rf_fragment_key(skb->ifindex, packet, header->id, six);
	struct rf_fragment ports = { packet->source_port, packet->destination_port, packet->protocol };

	return bpf_map_update_elem(&frag, &key, &ports, BPF_ANY);
}

/* What the protocol's header says. A first fragment that does not hold all of it is malformed. */
static __always_inline enum rf_parsed rf_parse_transport(struct __sk_buff *skb, const struct rf_header *header,
							 struct rf_packet *packet, bool six)
{
	bool whole = true;

	if (header->offset)
		return rf_parse_follower(skb, header, packet, six);
	packet->first_fragment = header->more;
	switch (packet->protocol) {
	case IPPROTO_TCP:
		whole = rf_parse_tcp(skb, header->at, packet, six);
		break;
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		whole = rf_parse_ports(skb, header->at, packet, six);
		break;
	case IPPROTO_ICMP:
		if (!six)
			whole = rf_parse_icmp4(skb, header->at, packet);
		break;
	case IPPROTO_ICMPV6:
		if (six)
			whole = rf_parse_icmp6(skb, header->at, packet);
		break;
	}
	return whole ? RF_PARSED : RF_MALFORMED;
}
