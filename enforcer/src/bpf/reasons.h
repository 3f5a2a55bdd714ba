/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Why a packet passed or fell: every verdict has a reason, and every reason is a counter; user space takes their names from here, through the object's BTF.
 */
#pragma once

#include "kernel.h"

enum rf_reason {
	RF_PASS_ESTABLISHED, /* of a flow that was allowed before */
	RF_PASS_NEW, /* the first of a flow that policy allows */
	RF_PASS_REJUDGED, /* of a flow that the changed policy allows too */
	RF_PASS_PICKED_UP, /* of a TCP connection that was not known, but could have been opened */
	RF_PASS_DEFERRED, /* to a Service; judged once its real destination is known */
	RF_PASS_NODE, /* made by this node itself, as a probe */
	RF_PASS_SELF, /* of a pod to itself */
	RF_PASS_RELATED, /* an ICMP error about a flow that is allowed */
	RF_PASS_GROUP, /* multicast or broadcast: not policed */
	RF_PASS_NEIGHBOUR, /* ARP, neighbour discovery, multicast listeners */
	RF_DROP_INGRESS, /* no policy allows it into the pod */
	RF_DROP_EGRESS, /* no policy allows it out of the pod */
	RF_DROP_SERVICE, /* no policy allows it to the pod behind the Service */
	RF_DROP_CUT, /* of a flow that the changed policy allows no more */
	RF_DROP_REPLY, /* an answer that nobody asked for */
	RF_DROP_PENDING, /* the pod behind the veth is not known yet */
	RF_DROP_SPOOFED, /* from a pod, but not from its address, or telling its neighbours of another one */
	RF_DROP_FRAGMENT, /* a later fragment whose first was not seen */
	RF_DROP_MALFORMED, /* shorter than its headers say, or not of a form that can be judged */
	RF_DROP_EXTENSIONS, /* IPv6 with more extension headers than are looked through, or with a way still to go in them */
	RF_DROP_ROUTER, /* from a pod that says it is a router: advertisement or redirect */
	RF_DROP_NOT_IP, /* neither IP nor ARP, of an isolated pod */
	RF_REASONS, /* how many there are */
};

/* What else is counted, behind the reasons. */
enum rf_tally {
	RF_TALLY_FLOWS4 = RF_REASONS, /* flows that came to be remembered */
	RF_TALLY_FLOWS6,
	RF_TALLY_OVER4, /* ... beyond the pod's share */
	RF_TALLY_OVER6,
	RF_TALLY_UNSENT, /* denials that no event tells of, since there were too many */
	RF_COUNTS, /* how many counters there are, with the reasons */
};
