//! The maps' keys and values as bytes. Their types come from the object's own BTF, so both sides mean the same layout.

use crate::skeleton::types;
use crate::skeleton::types::{rf_reason as reason, rf_tally as tally};

/// A key or value that can be copied as bytes.
///
/// # Safety
/// The type has no padding and every pattern of bits is a value of it.
pub unsafe trait Row: Copy + Default {}

macro_rules! rows {
    ($($name:ident = $size:literal),* $(,)?) => {$(
        // SAFETY: only integers and arrays of them, whose sizes add up to the size of the whole, so there is no padding.
        unsafe impl Row for types::$name {}
        const _: () = assert!(size_of::<types::$name>() == $size);
    )*};
}

rows! {
    rf_endpoint = 40,
    rf_address = 16,
    rf_class = 8,
    rf_prefix_key = 20,
    rf_decision_key = 8,
    rf_decision = 8,
    rf_service_key = 20,
    rf_flow_key = 28,
    rf_flow = 32,
    rf_denial = 28,
    rf_denials = 16,
}

// SAFETY: an integer.
unsafe impl Row for u32 {}
// SAFETY: an integer.
unsafe impl Row for u64 {}
// SAFETY: an array of integers.
unsafe impl Row for [u8; 4] {}

pub fn bytes<T: Row>(row: &T) -> &[u8] {
    // SAFETY: `Row` promises that all of its bytes are initialised; the slice borrows it.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(row).cast(), size_of::<T>()) }
}

/// `None` if there are not as many bytes as the type has.
pub fn read<T: Row>(bytes: &[u8]) -> Option<T> {
    // SAFETY: the length is checked, the read needs no alignment, and `Row` promises that any bits are a value.
    (bytes.len() == size_of::<T>()).then(|| unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}

/// Fills the beginning of a row; the rest stays as it is. False if there are more bytes than the row has.
pub fn widen<T: Row>(short: &[u8], row: &mut T) -> bool {
    // SAFETY: `Row` promises that any bits are a value; the slice borrows it alone.
    let all = unsafe { std::slice::from_raw_parts_mut(std::ptr::from_mut(row).cast::<u8>(), size_of::<T>()) };
    let Some(beginning) = all.get_mut(..short.len()) else {
        return false;
    };
    beginning.copy_from_slice(short);
    true
}

/// Why a packet passed or fell: the counters' index, whether it passed, and the name that a metric gives it.
pub const REASONS: [(reason, &str, &str); reason::RF_REASONS.0 as usize] = [
    (reason::RF_PASS_ESTABLISHED, "pass", "established"),
    (reason::RF_PASS_NEW, "pass", "new"),
    (reason::RF_PASS_REJUDGED, "pass", "rejudged"),
    (reason::RF_PASS_PICKED_UP, "pass", "picked_up"),
    (reason::RF_PASS_DEFERRED, "pass", "deferred"),
    (reason::RF_PASS_NODE, "pass", "node"),
    (reason::RF_PASS_SELF, "pass", "self"),
    (reason::RF_PASS_RELATED, "pass", "related"),
    (reason::RF_PASS_GROUP, "pass", "group"),
    (reason::RF_PASS_NEIGHBOUR, "pass", "neighbour"),
    (reason::RF_DROP_INGRESS, "drop", "ingress"),
    (reason::RF_DROP_EGRESS, "drop", "egress"),
    (reason::RF_DROP_SERVICE, "drop", "service"),
    (reason::RF_DROP_CUT, "drop", "cut"),
    (reason::RF_DROP_REPLY, "drop", "unasked_reply"),
    (reason::RF_DROP_PENDING, "drop", "pending"),
    (reason::RF_DROP_SPOOFED, "drop", "spoofed"),
    (reason::RF_DROP_FRAGMENT, "drop", "fragment"),
    (reason::RF_DROP_MALFORMED, "drop", "malformed"),
    (reason::RF_DROP_EXTENSIONS, "drop", "extension_headers"),
    (reason::RF_DROP_ROUTER, "drop", "router"),
    (reason::RF_DROP_NOT_IP, "drop", "not_ip"),
];

/// Whether a denial for this reason is in the rows of denials: those of which it is known what they are.
pub fn is_recorded(why: reason) -> bool {
    why.0 >= reason::RF_DROP_INGRESS.0
        && ![
            reason::RF_DROP_PENDING,
            reason::RF_DROP_MALFORMED,
            reason::RF_DROP_NOT_IP,
        ]
        .contains(&why)
}

/// What else is counted: the counters' index, and the name that a metric gives it.
pub const TALLIES: [(tally, &str); tally::RF_COUNTS.0 as usize - reason::RF_REASONS.0 as usize] = [
    (tally::RF_TALLY_FLOWS4, "flows4"),
    (tally::RF_TALLY_FLOWS6, "flows6"),
    (tally::RF_TALLY_OVER4, "over4"),
    (tally::RF_TALLY_OVER6, "over6"),
    (tally::RF_TALLY_UNSENT, "unsent"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_name_in_its_place() {
        for (index, (why, verdict, _)) in REASONS.into_iter().enumerate() {
            assert_eq!(why.0 as usize, index);
            assert_eq!(verdict == "drop", why.0 >= reason::RF_DROP_INGRESS.0);
        }
        for (index, (what, _)) in TALLIES.into_iter().enumerate() {
            assert_eq!(what.0 as usize, REASONS.len() + index);
        }
    }
}
