/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From an IPv4 address to the class of the longest prefix that holds it, in at most seven steps however many prefixes there are. The
 * kernel's own table of prefixes takes as many as the prefixes around are deep, and its nodes are all over the memory.
 *
 * The first 16 bits of an address choose a word; a word names a prefix by its place among the classes, or a line: of up to seven longer
 * prefixes, or of a word for each value of the next four bits. Written by user space (encode/tree.rs), which stores a line before
 * anything names it, and does not use it again while a packet may be in it. Where it had no room, the kernel's table is asked.
 */
#pragma once

#include <bpf/bpf_endian.h>

#include "maps.h"

/* As in encode/tree.rs. */
#define RF_TREE_LINES 65536
#define RF_TREE_PLACES 131072
#define RF_TREE_PREFIXES 7
#define RF_TREE_KIND_BITS 6 /* so that what is above them in a word is where in the table a line begins */
#define RF_TREE_KIND ((1U << RF_TREE_KIND_BITS) - 1)
#define RF_TREE_SHIFT_BITS 8

/* The low bits of a word: what it names. The others say which one. */
enum rf_tree_kind {
	RF_TREE_ONE, /* a prefix, by its place; place 0 is that of addresses in none */
	RF_TREE_FEW, /* a line of a few prefixes */
	RF_TREE_MANY, /* a line of words, for the next four bits */
	RF_TREE_ASK, /* there was no room: the kernel's own table knows */
};

/* Words; the first lines are those for the first 16 bits. One line of the cache. */
struct rf_tree_line {
	__u32 word[16];
};

/* Longer prefixes than the bits before, the longest first, and the place that counts in none of them. */
struct rf_tree_few {
	__u32 other;
	__u32 zero;
	struct {
		__u32 network; /* in the machine's order */
		__u32 entry; /* its place; in the low 8 bits how far to shift what is compared. 0: no more */
	} prefix[RF_TREE_PREFIXES];
};

_Static_assert(sizeof(struct rf_tree_few) == sizeof(struct rf_tree_line), "a line is a line");
_Static_assert(sizeof(struct rf_tree_line) == 1 << RF_TREE_KIND_BITS, "a line begins where its word says");

/*
 * One element each: what is followed through them from word to word costs a few cycles a step so, and many times that with a look-up in
 * each. Larger than 4 MiB an element cannot be on every kernel.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, RF_TREE_LINES * sizeof(struct rf_tree_line));
} tree4 SEC(".maps");

/* The classes of prefixes, by their places. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, RF_TREE_PLACES * sizeof(struct rf_class));
} class4 SEC(".maps");

static __always_inline struct rf_class *rf_ask_prefixes4(__be32 address)
{
	struct rf_prefix_key key;

	key.length = 32;
	key.address.word[0] = address;
	return bpf_map_lookup_elem(&cidr4, &key);
}

/* The line that a word names. */
static __always_inline const void *rf_tree_line(const void *tree, __u32 word)
{
	return tree + (word & (RF_TREE_LINES - 1) << RF_TREE_KIND_BITS);
}

/* Of the few prefixes in a line the longest that holds the address. */
static __always_inline __u32 rf_tree_among(const struct rf_tree_few *few, __u32 at)
{
#pragma unroll
	for (int i = 0; i < RF_TREE_PREFIXES; i++) {
		__u32 entry = few->prefix[i].entry, place = entry >> RF_TREE_SHIFT_BITS;

		if (!place)
			break;
		if (!((few->prefix[i].network ^ at) >> (entry & 31)))
			return place;
	}
	return few->other;
}

/* The word for four bits of the address in a line of them. Read at once, as it was stored. */
static __always_inline __u32 rf_tree_word(const struct rf_tree_line *line, __u32 bits)
{
	return *(const volatile __u32 *)&line->word[bits & 15];
}

/* Four bits further, if there is anything to tell by them. */
static __always_inline __u32 rf_tree_step(const void *tree, __u32 word, __u32 bits)
{
	return (word & RF_TREE_KIND) == RF_TREE_MANY ? rf_tree_word(rf_tree_line(tree, word), bits) : word;
}

static __always_inline struct rf_class *rf_prefix_class4(__be32 address)
{
	__u32 at = bpf_ntohl(address), zero = 0, word, place;
	const void *tree = bpf_map_lookup_elem(&tree4, &zero);
	struct rf_class *classes = bpf_map_lookup_elem(&class4, &zero);

	if (!tree || !classes)
		return NULL;
	word = rf_tree_word(tree + (at >> 20 << RF_TREE_KIND_BITS), at >> 16);
	word = rf_tree_step(tree, word, at >> 12);
	word = rf_tree_step(tree, word, at >> 8);
	word = rf_tree_step(tree, word, at >> 4);
	word = rf_tree_step(tree, word, at);
	switch (word & RF_TREE_KIND) {
	case RF_TREE_ONE:
		place = word >> RF_TREE_KIND_BITS;
		break;
	case RF_TREE_FEW:
		place = rf_tree_among(rf_tree_line(tree, word), at);
		break;
	default:
		return rf_ask_prefixes4(address);
	}
	return &classes[place & (RF_TREE_PLACES - 1)];
}
