/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The state, shared by all programs of a node and pinned, so that it outlives the agent. Nothing in here is per pod but
 * one element of `ep`. A change of layout needs a new layout version in user space (datapath/pin.rs), which is another one for flows.
 */
#pragma once

#include <bpf/bpf_helpers.h>

#include "kernel.h"
#include "reasons.h"

#define RF_ENDPOINTS 65536
#define RF_FLOWS4 262144
#define RF_FLOWS6 131072
#define RF_FLOWS_OVER 65536
#define RF_FAMILIES 2
#define RF_PORT_CLASSES 1024
#define RF_PORT_SETS 16384
#define RF_PORT_SET_ALL 0 /* this set of ports holds every protocol, also those without ports */
#define RF_CLASS_ANYONE 0U
#define RF_CLASS_PODS 1U /* what counts for a pod for whose class a ruleset says nothing */
#define RF_CLASS_NONE 0xffffffffU /* "no entry here, see the prefixes" */
#define RF_SIDES 2
#define RF_CANARY 0x7fff0000 /* the interface by which it is proved that all of this works: what happens there does not count */

/* The host's end of a pod's veth. */
struct rf_endpoint {
	__u32 ifindex; /* the whole of it: the map's index has its low half. 0: none */
	__be32 address4; /* the pod's; 0 while it is not known, or if it has none of this family */
	/*
	 * Everything that a verdict depends on, in one aligned word, so that one store swaps it: the ruleset for egress (20 bits),
	 * that for ingress (20), the generation (24, the topmost). Ruleset 0: not isolated. Word 0: the pod is not known yet.
	 * The lowest bit of the generation says which side of the class tables counts.
	 */
	__u64 word;
	__u32 via; /* where the node receives the pod's packets: the veth itself, or the bridge that it is a port of */
	__u32 flags;
	struct rf_address address6; /* as address4 */
};

enum rf_endpoint_flags {
	RF_ENDPOINT_LAX = 1, /* while nothing isolates the pod, it may send from any address */
};

/*
 * Where keys and values have an address, it is at the end, so that those of IPv4 are the beginning of those of IPv6: one piece of code
 * works on both, and IPv4 does not pay for the longer addresses.
 */
#define RF_SIZE4(type, address) (__builtin_offsetof(struct type, address) + sizeof(__be32))

/* A flow as its local pod sees it, so that one look-up serves both directions. Ports as on the wire. */
struct rf_flow_key {
	__u32 ifindex; /* of the pod's veth */
	__be16 local_port;
	__be16 peer_port;
	__u8 protocol;
	__u8 zero[3];
	struct rf_address peer;
};

enum rf_flow_flags {
	RF_FLOW_BY_PEER = 1, /* the peer opened it, not the pod */
	RF_FLOW_NODE = 2, /* the node itself opened it: allowed, whatever policy says */
	RF_FLOW_SELF = 4, /* the pod reaches itself */
	RF_FLOW_DEFERRED = 8, /* to a Service: judged by its real destination */
	RF_FLOW_JUDGED = 16, /* ... which is known, and allowed */
	RF_FLOW_ANSWERED = 32, /* TCP: the other side has sent something too */
	RF_FLOW_CLOSED = 64, /* TCP: one side has ended it; soon nobody needs to remember it */
};

struct rf_flow {
	__u64 seen; /* ns */
	__u32 gen; /* of the endpoint, when it was judged */
	__be16 real_port; /* behind the Service */
	__u8 flags;
	__u8 reserved;
	struct rf_address real_address; /* behind the Service */
};

/*
 * How many flows a pod has, by family, since they were last counted. Beyond its share, what is new goes to another table than everybody
 * else's, where it displaces only what is of pods beyond their shares.
 */
struct rf_quota {
	__u32 flows[RF_FAMILIES];
	__u32 over[RF_FAMILIES]; /* not 0: some are in the other table */
};

/* Seen from the pod. */
enum rf_direction { RF_INGRESS, RF_EGRESS };

/* A kind of denied packets. */
struct rf_denial {
	__u32 ifindex; /* of the pod's veth */
	__u8 direction;
	__u8 reason;
	__u8 protocol;
	__u8 family;
	__be16 port; /* that they went to */
	__u16 zero;
	struct rf_address peer;
};

struct rf_denials {
	__u64 packets;
	__u64 last; /* ns */
};

/* How many events there were in this second, on this CPU. */
struct rf_pace {
	__u64 since;
	__u64 told;
};

/* An address's class before and after the update that is under way; the endpoint's generation says which counts. */
struct rf_class {
	__u32 side[RF_SIDES];
};

struct rf_prefix_key {
	__u32 length;
	struct rf_address address;
};

struct rf_decision_key {
	__u32 ruleset;
	__u32 class;
};

struct rf_decision {
	__u32 port_set;
	__u32 rule; /* which rule allows it: for the ledger */
};

struct rf_port_set {
	__u64 bits[RF_PORT_CLASSES / 64];
};

struct rf_service_key {
	__be16 port;
	__u8 protocol;
	__u8 zero;
	struct rf_address address;
};

/* Rare enough for one map of both families. */
struct rf_fragment_key {
	__u32 ifindex;
	__be32 id;
	__u8 family;
	__u8 protocol; /* of IPv6 0: what its fragments say of it need not be the same */
	__u8 zero[2];
	struct rf_address source;
	struct rf_address destination;
};

struct rf_fragment {
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 zero[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RF_ENDPOINTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct rf_endpoint);
} ep SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, RF_FLOWS4);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(key_size, RF_SIZE4(rf_flow_key, peer));
	__uint(value_size, RF_SIZE4(rf_flow, real_address) + 4); /* in whole words of 8 bytes */
} ct4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, RF_FLOWS6);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct rf_flow_key);
	__type(value, struct rf_flow);
} ct6 SEC(".maps");

/* Flows of pods that have more than their share, beside those in `ct4` and `ct6`. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, RF_FLOWS_OVER);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(key_size, RF_SIZE4(rf_flow_key, peer));
	__uint(value_size, RF_SIZE4(rf_flow, real_address) + 4);
} over4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, RF_FLOWS_OVER);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct rf_flow_key);
	__type(value, struct rf_flow);
} over6 SEC(".maps");

/* By the place in `ep`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RF_ENDPOINTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct rf_quota);
} quota SEC(".maps");

/* How many flows of a family a pod may have in `ct4` or `ct6`. 0: as many as it likes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RF_FAMILIES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} share SEC(".maps");

/* Classes of pods' addresses, of all nodes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __be32);
	__type(value, struct rf_class);
} pod4 SEC(".maps");

/* A bit for each value of the first 16 bits of an address: clear where `pod4` has none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536 / 64);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} near4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct rf_address);
	__type(value, struct rf_class);
} pod6 SEC(".maps");

/* Classes of all other addresses. That of IPv4 is what user space reads back; it is asked where `tree4` has no room. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(key_size, RF_SIZE4(rf_prefix_key, address));
	__uint(value_size, sizeof(struct rf_class));
} cidr4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct rf_prefix_key);
	__type(value, struct rf_class);
} cidr6 SEC(".maps");

/* What a ruleset opens to a class. Rows never change: their keys stand for contents. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2097152);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct rf_decision_key);
	__type(value, struct rf_decision);
} dec SEC(".maps");

/* The class of a port: TCP's, then UDP's, then SCTP's. A word each, since user space stores them through mmap. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3 * 65536);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} pcls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RF_PORT_SETS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct rf_port_set);
} pset SEC(".maps");

/* Addresses and ports of Services. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(key_size, RF_SIZE4(rf_service_key, address));
	__uint(value_size, sizeof(__u32));
} vip4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct rf_service_key);
	__type(value, __u32);
} vip6 SEC(".maps");

/* The veth behind which a local pod's address is, for packets that are seen away from it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __be32);
	__type(value, __u32);
} local4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct rf_address);
	__type(value, __u32);
} local6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct rf_fragment_key);
	__type(value, struct rf_fragment);
} frag SEC(".maps");

/* Kinds of denied packets; what a flood of kinds pushes out is still in the reasons' counters. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct rf_denial);
	__type(value, struct rf_denials);
} denied SEC(".maps");

/*
 * Which interfaces user space has looked at, by the low half of the index: see newborn.h. The last element says whether any of it
 * counts yet.
 */
#define RF_SEEN_ARMED RF_ENDPOINTS

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RF_ENDPOINTS + 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

/* Those whose element is another one's, by the whole of their index. Both may live for long. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u32);
} seen_too SEC(".maps");

/* The first of each kind, for whoever listens: not pinned, each agent has its own. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rf_pace);
} pace SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RF_COUNTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} cnt SEC(".maps");

/* The same address, of either family. */
static __always_inline bool rf_is_same(const struct rf_address *a, const struct rf_address *b, bool six)
{
	if (!six)
		return a->word[0] == b->word[0];
	return !((a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1]) | (a->word[2] ^ b->word[2]) |
		 (a->word[3] ^ b->word[3]));
}

static __always_inline void rf_count(__u32 index)
{
	__u64 *count = bpf_map_lookup_elem(&cnt, &index);

	if (count)
		++*count;
}
