/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What of the kernel this program names, and nothing else.
 *
 * Types of the user-space interface have fixed layouts and are written out. Types from inside the kernel carry
 * `preserve_access_index`: only the fields that are read are named, and libbpf finds their real places in the BTF of the
 * kernel that it loads into. So the build needs no headers and no BTF of the machine that it runs on.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u16 __sum16;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_F_NO_PREALLOC = 1U << 0,
	BPF_F_MMAPABLE = 1U << 10,
};

enum { BPF_ANY, BPF_NOEXIST, BPF_EXIST };

/* Verdicts. To pass is to have no opinion, so that other programs at the same hook still run. */
#define TC_ACT_UNSPEC (-1)
#define TC_ACT_SHOT 2
#define NF_DROP 0
#define NF_ACCEPT 1

#define NF_INET_LOCAL_IN 1

#define ETH_HLEN 14
#define ETH_P_IP 0x0800
#define ETH_P_ARP 0x0806
#define ETH_P_IPV6 0x86dd

#define AF_INET 2
#define AF_INET6 10

#define IPPROTO_ICMP 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ICMPV6 58
#define IPPROTO_SCTP 132

/* IPv6 extension headers: those behind which another header may come. */
#define IPPROTO_HOPOPTS 0
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_AH 51
#define IPPROTO_DSTOPTS 60

struct __sk_buff {
	__u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority;
	__u32 ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end;
};

struct iphdr {
	__u8 ihl : 4, version : 4; /* little-endian; see the check in parse.h */
	__u8 tos;
	__be16 tot_len, id, frag_off;
	__u8 ttl, protocol;
	__sum16 check;
	__be32 saddr, daddr;
};

/* An address of either family; that of IPv4 is the first word, and the others are 0 or not read. As netfilter has it. */
struct rf_address {
	__be32 word[4];
};

struct ipv6hdr {
	__u8 version_class, class_flow[3];
	__be16 payload_len;
	__u8 nexthdr, hop_limit;
	struct rf_address saddr, daddr;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct rtnl_link_ops {
	const char *kind;
};

struct net_device {
	int ifindex;
	const struct rtnl_link_ops *rtnl_link_ops;
};

struct nf_hook_state {
	__u8 hook;
	__u8 pf;
	struct net_device *in;
	struct net_device *out;
};

struct sk_buff {
	unsigned long _nfct; /* the flow that netfilter tracks, with the packet's place in it in the low bits */
	__u16 transport_header, network_header; /* from `head` on */
	unsigned char *head;
};

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
};

union nf_inet_addr {
	__be32 all[4];
};

union nf_conntrack_man_proto {
	__be16 all;
};

struct nf_conntrack_man {
	union nf_inet_addr u3;
	union nf_conntrack_man_proto u;
};

struct nf_conntrack_tuple {
	struct nf_conntrack_man src;
	struct {
		union nf_inet_addr u3;
		union {
			__be16 all;
		} u;
		__u8 protonum;
	} dst;
};

struct nf_conntrack_tuple_hash {
	struct nf_conntrack_tuple tuple;
};

struct nf_conn {
	struct nf_conntrack_tuple_hash tuplehash[2];
	unsigned long status;
};

#pragma clang attribute pop
