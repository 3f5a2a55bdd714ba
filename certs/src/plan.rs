//! What is to be done, from what is stored and the time. Pure: the same arguments, the same plan.

use std::fmt;

use time::{Duration, OffsetDateTime};

use crate::authority::{Authority, Certificate, Leaf, skew};

/// How long certificates live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    pub authority: Duration,
    pub leaf: Duration,
    /// How long a new CA is trusted before it signs, so that everyone has it by then.
    pub settle: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            authority: Duration::days(5 * 365),
            leaf: Duration::days(90),
            settle: Duration::hours(1),
        }
    }
}

impl Lifetimes {
    /// How often a replica looks whether something is due, or was done by another: often enough that it serves no certificate that the
    /// others have replaced long ago, and at most once a second.
    pub fn look(&self) -> std::time::Duration {
        let often = std::time::Duration::try_from(self.leaf / 20_i32).unwrap_or_default();
        often.clamp(
            std::time::Duration::from_secs(1),
            std::time::Duration::from_secs(60),
        )
    }
}

/// Why something is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Absent,
    Expired,
    /// Two thirds of its life are over.
    Due,
    /// It would live longer than the settings want by now.
    Long,
    /// It is for other names.
    Names,
    /// No CA that is trusted signed it.
    Untrusted,
}

impl Reason {
    /// Whether what is there can be used for a while longer.
    pub fn can_wait(self) -> bool {
        matches!(self, Self::Due | Self::Long)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "there is none",
            Self::Expired => "it has expired",
            Self::Due => "two thirds of its life are over",
            Self::Long => "it would live longer than it should",
            Self::Names => "it is for other names",
            Self::Untrusted => "no trusted CA signed it",
        })
    }
}

/// Whether a new CA is to be issued. One that has expired is no use in the bundle either.
pub fn authority(stored: Option<&Authority>, lifetimes: &Lifetimes, now: OffsetDateTime) -> Option<Reason> {
    match stored.and_then(Authority::newest) {
        None => Some(Reason::Absent),
        Some(newest) if newest.not_after <= now => Some(Reason::Expired),
        Some(newest) if renewal(newest) <= now => Some(Reason::Due),
        Some(newest) if is_long(newest, lifetimes.authority, now) => Some(Reason::Long),
        Some(_) => None,
    }
}

/// Whether a new serving certificate is to be issued. One that merely falls due waits until the newest CA may sign;
/// one that cannot be used does not.
pub fn leaf(
    stored: Option<&Leaf>,
    authority: &Authority,
    names: &[String],
    lifetimes: &Lifetimes,
    now: OffsetDateTime,
) -> Option<Reason> {
    let Some(Leaf { certificate, .. }) = stored else {
        return Some(Reason::Absent);
    };
    if certificate.not_after <= now {
        Some(Reason::Expired)
    } else if !authority.vouches_for(certificate, now) {
        Some(Reason::Untrusted)
    } else if !names.iter().all(|name| certificate.names.contains(name)) {
        Some(Reason::Names)
    } else if renewal(certificate) <= now && may_sign(authority, lifetimes, now) {
        Some(Reason::Due)
    } else if is_long(certificate, lifetimes.leaf, now) && may_sign(authority, lifetimes, now) {
        Some(Reason::Long)
    } else {
        None
    }
}

/// Whether everybody has had the time to learn of the newest CA. The first there ever was need not wait.
fn may_sign(authority: &Authority, lifetimes: &Lifetimes, now: OffsetDateTime) -> bool {
    match authority.bundle.as_slice() {
        [newest, _, ..] => issued(newest) + lifetimes.settle <= now,
        _ => true,
    }
}

/// Whether it would live longer than one that is issued now, by more than clocks differ.
fn is_long(certificate: &Certificate, lifetime: Duration, now: OffsetDateTime) -> bool {
    certificate.not_after > now + lifetime + skew(lifetime)
}

/// When a certificate of ours was issued: its validity begins that much earlier.
fn issued(certificate: &Certificate) -> OffsetDateTime {
    let whole = certificate.not_after - certificate.not_before;
    certificate.not_before + skew(whole * 10_i32 / 11_i32)
}

/// When two thirds of a certificate's life are over.
fn renewal(certificate: &Certificate) -> OffsetDateTime {
    certificate.not_before + (certificate.not_after - certificate.not_before) * 2 / 3
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::days(20_000));

    fn names() -> Vec<String> {
        vec!["hook.system.svc".to_owned(), "127.0.0.1".to_owned()]
    }

    fn issued() -> (Authority, Leaf) {
        let lifetimes = Lifetimes::default();
        let authority = Authority::issue(&[], START, lifetimes.authority).unwrap();
        let leaf = Leaf::issue(&authority, &names(), START, lifetimes.leaf).unwrap();
        (authority, leaf)
    }

    #[test]
    fn what_is_there_and_good_is_kept() {
        let (ca, leaf) = issued();
        let later = START + Duration::days(50);
        assert_eq!(authority(Some(&ca), &Lifetimes::default(), later), None);
        assert_eq!(
            super::leaf(Some(&leaf), &ca, &names(), &Lifetimes::default(), later),
            None
        );
    }

    #[test]
    fn each_reason_to_issue_is_seen() {
        let (ca, leaf) = issued();
        let (other, _) = issued();
        let lifetimes = Lifetimes::default();
        let at = |days| START + Duration::days(days);
        assert_eq!(authority(None, &lifetimes, START), Some(Reason::Absent));
        assert_eq!(authority(Some(&ca), &lifetimes, at(4 * 365)), Some(Reason::Due));
        assert_eq!(
            authority(Some(&ca), &lifetimes, at(6 * 365)),
            Some(Reason::Expired)
        );
        let judge = |leaf, ca, names: &[String], now| super::leaf(leaf, ca, names, &lifetimes, now);
        assert_eq!(judge(None, &ca, &names(), START), Some(Reason::Absent));
        assert_eq!(judge(Some(&leaf), &ca, &names(), at(61)), Some(Reason::Due));
        assert_eq!(judge(Some(&leaf), &ca, &names(), at(91)), Some(Reason::Expired));
        assert_eq!(
            judge(Some(&leaf), &other, &names(), START),
            Some(Reason::Untrusted)
        );
        let more = [names(), vec!["other.svc".to_owned()]].concat();
        assert_eq!(judge(Some(&leaf), &ca, &more, START), Some(Reason::Names));
    }

    #[test]
    fn what_would_live_longer_than_the_settings_want_is_replaced_the_leaf_once_the_new_ca_may_sign() {
        let (ca, leaf) = issued();
        let short = Lifetimes {
            authority: Duration::days(10),
            leaf: Duration::days(2),
            settle: Duration::hours(1),
        };
        assert_eq!(authority(Some(&ca), &short, START), Some(Reason::Long));
        let newer = Authority::issue(&ca.bundle, START, short.authority).unwrap();
        assert_eq!(authority(Some(&newer), &short, START), None);
        let judge = |now| super::leaf(Some(&leaf), &newer, &names(), &short, now);
        assert_eq!(judge(START), None, "not everybody knows the new CA yet");
        assert_eq!(judge(START + Duration::hours(1)), Some(Reason::Long));
        // Back to longer lives, what is there is good until it falls due.
        assert_eq!(authority(Some(&newer), &Lifetimes::default(), START), None);
    }

    #[test]
    fn what_was_written_reads_back_the_same() {
        let (ca, leaf) = issued();
        assert_eq!(
            Authority::read(ca.pem().as_bytes(), ca.key.as_bytes()).unwrap(),
            ca
        );
        assert_eq!(
            Leaf::read(leaf.certificate.pem.as_bytes(), leaf.key.as_bytes()).unwrap(),
            leaf
        );
        assert_eq!(leaf.certificate.names, names());
    }

    #[test]
    fn a_key_of_another_certificate_and_what_is_none_are_errors_that_say_so() {
        let ((ca, leaf), (_, other)) = (issued(), issued());
        let table = [
            (
                Leaf::read(leaf.certificate.pem.as_bytes(), other.key.as_bytes()).err(),
                "not that of the certificate",
            ),
            (Leaf::read(b"", leaf.key.as_bytes()).err(), "has no certificate"),
            (
                Leaf::read(leaf.certificate.pem.as_bytes(), b"x").err(),
                "the serving key",
            ),
            (
                Authority::read(ca.pem().as_bytes(), leaf.key.as_bytes()).err(),
                "not that of the newest",
            ),
            (
                Authority::read(
                    b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
                    ca.key.as_bytes(),
                )
                .err(),
                "no certificate in PEM form",
            ),
        ];
        for (error, expected) in table {
            let error = error.map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        }
    }

    /// Walks through 15 years, with a client that learns of a new bundle only after `settle`, and asks at every
    /// step whether it still trusts what is served.
    #[test]
    fn through_years_of_rotation_a_slow_client_trusts_what_is_served_at_every_moment() {
        let lifetimes = Lifetimes::default();
        let (mut ca, mut leaf) = issued();
        let mut history = vec![(START, ca.clone())];
        let (mut authorities, mut leaves) = (0, 0);
        let mut now = START;
        while now < START + Duration::days(15 * 365) {
            now += Duration::hours(67);
            if authority(Some(&ca), &lifetimes, now).is_some() {
                ca = Authority::issue(&ca.bundle, now, lifetimes.authority).unwrap();
                history.push((now, ca.clone()));
                authorities += 1;
            }
            if super::leaf(Some(&leaf), &ca, &names(), &lifetimes, now).is_some() {
                leaf = Leaf::issue(&ca, &names(), now, lifetimes.leaf).unwrap();
                leaves += 1;
            }
            let slow = history
                .iter()
                .rev()
                .find(|(since, _)| *since + lifetimes.settle <= now);
            let (_, known) = slow.unwrap();
            assert!(known.vouches_for(&leaf.certificate, now), "at {now}");
            assert!(ca.vouches_for(&leaf.certificate, now), "at {now}");
        }
        assert!(
            authorities >= 3 && leaves > 80,
            "{authorities} CAs, {leaves} leaves"
        );
        assert!(ca.bundle.len() <= 3, "expired CAs leave the bundle");
    }
}
