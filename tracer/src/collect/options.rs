//! The options of a TCP header, one after the other. One that the parser does not know is stepped over by its length
//! (RFC 9293, section 3.1), so that those behind it are found: balancers put theirs (TOA, kind 254) before the others.

use etherparse::{TcpOptionElement, TcpOptionReadError, TcpOptionsIterator, TcpSlice};

use crate::model::Timestamps;

/// Kind and length of an option that has a length.
const HEAD: usize = 2;
/// Kind of the options of MPTCP (RFC 8684).
const MPTCP: u8 = 30;

/// One option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpOption<'a> {
    /// One that the parser knows.
    Known(TcpOptionElement),
    /// Another one: its kind, and what follows its length.
    Other(u8, &'a [u8]),
    /// What cannot be read; nothing follows it.
    Unreadable,
}

/// The options of a segment in order, up to the end of the list.
pub fn options<'a>(tcp: &'a TcpSlice<'_>) -> impl Iterator<Item = TcpOption<'a>> {
    let mut rest = tcp.options();
    std::iter::from_fn(move || {
        let (option, behind) = first(rest)?;
        rest = behind;
        Some(option)
    })
}

/// The first option, and what follows it.
fn first(bytes: &[u8]) -> Option<(TcpOption<'_>, &[u8])> {
    let mut parser = TcpOptionsIterator::from_slice(bytes);
    Some(match parser.next()? {
        Ok(known) => (TcpOption::Known(known), parser.rest()),
        Err(TcpOptionReadError::UnknownId(kind)) => other(kind, bytes),
        Err(_) => (TcpOption::Unreadable, &[]),
    })
}

fn other(kind: u8, bytes: &[u8]) -> (TcpOption<'_>, &[u8]) {
    let split = bytes.get(1).and_then(|length| bytes.split_at_checked(usize::from(*length)));
    match split.and_then(|(option, rest)| Some((option.get(HEAD..)?, rest))) {
        Some((value, rest)) => (TcpOption::Other(kind, value), rest),
        None => (TcpOption::Unreadable, &[]),
    }
}

/// The timestamp option.
pub fn timestamps(tcp: &TcpSlice<'_>) -> Option<Timestamps> {
    options(tcp).find_map(|option| match option {
        TcpOption::Known(TcpOptionElement::Timestamp(value, echo)) => Some(Timestamps { value, echo }),
        _ => None,
    })
}

/// MSS and window scale of a SYN; a shift above 14 counts as 14 (RFC 7323, section 2.3).
pub fn offer(tcp: &TcpSlice<'_>) -> (Option<u16>, Option<u8>) {
    let (mut mss, mut scale) = (None, None);
    for option in options(tcp) {
        match option {
            TcpOption::Known(TcpOptionElement::MaximumSegmentSize(size)) => mss = Some(size),
            TcpOption::Known(TcpOptionElement::WindowScale(shift)) => scale = Some(shift.min(14)),
            _ => {}
        }
    }
    (mss, scale)
}

/// Option names in order; padding is left out, what cannot be read is named so.
pub fn option_names(tcp: &TcpSlice<'_>) -> Vec<String> {
    options(tcp).filter_map(|option| name(&option)).collect()
}

fn name(option: &TcpOption<'_>) -> Option<String> {
    let known = match option {
        TcpOption::Known(TcpOptionElement::Noop) => return None,
        TcpOption::Known(TcpOptionElement::MaximumSegmentSize(_)) => "mss",
        TcpOption::Known(TcpOptionElement::WindowScale(_)) => "window_scale",
        TcpOption::Known(TcpOptionElement::SelectiveAcknowledgementPermitted) => "sack_permitted",
        TcpOption::Known(TcpOptionElement::SelectiveAcknowledgement(..)) => "sack",
        TcpOption::Known(TcpOptionElement::Timestamp(..)) => "timestamps",
        TcpOption::Other(kind, value) => return Some(other_name(*kind, value)),
        TcpOption::Unreadable => "unreadable",
    };
    Some(known.to_owned())
}

/// Names of the registry of TCP option kinds; a kind without one is shown by its number.
fn other_name(kind: u8, value: &[u8]) -> String {
    let registered = match kind {
        19 => "md5",
        28 => "user_timeout",
        29 => "authentication",
        MPTCP => return multipath_name(value).to_owned(),
        34 => "fast_open",
        _ => return format!("kind_{kind}"),
    };
    registered.to_owned()
}

/// Names of the registry of MPTCP option subtypes, which stand in the upper half of the first byte.
fn multipath_name(value: &[u8]) -> &'static str {
    const SUBTYPES: [&str; 9] = [
        "mp_capable",
        "mp_join",
        "mp_dss",
        "mp_add_addr",
        "mp_remove_addr",
        "mp_prio",
        "mp_fail",
        "mp_fastclose",
        "mp_tcprst",
    ];
    let subtype = value.first().map(|byte| usize::from(byte >> 4));
    subtype.and_then(|subtype| SUBTYPES.get(subtype)).copied().unwrap_or("mptcp")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN with these options, filled up with ends of the list.
    fn segment(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x1f, 0x90, 0x30, 0x39, 0, 0, 0, 10, 0, 0, 0, 20, 0, 2, 0, 64, 0, 0, 0, 0];
        bytes.extend(options);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes[12] = u8::try_from(bytes.len() / 4).unwrap() << 4;
        bytes
    }

    fn names(options: &[u8]) -> Vec<String> {
        option_names(&TcpSlice::from_slice(&segment(options)).unwrap())
    }

    #[test]
    fn what_stands_behind_an_unknown_option_is_found() {
        let toa = [254, 8, 0, 80, 192, 0, 2, 1];
        let bytes = segment(&[&toa[..], &[2, 4, 5, 180, 3, 3, 7, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9]].concat());
        let tcp = TcpSlice::from_slice(&bytes).unwrap();
        assert_eq!(option_names(&tcp), ["kind_254", "mss", "window_scale", "timestamps"]);
        assert_eq!(timestamps(&tcp), Some(Timestamps { value: 7, echo: 9 }));
        assert_eq!(offer(&tcp), (Some(1_460), Some(7)));
    }

    #[test]
    fn options_of_mptcp_have_their_own_names() {
        assert_eq!(
            names(&[30, 4, 0x80, 6, 30, 12, 0x70, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
            ["mp_tcprst", "mp_fastclose"]
        );
        assert_eq!(names(&[30, 4, 0xf0, 0, 34, 2]), ["mptcp", "fast_open"]);
    }

    #[test]
    fn an_option_without_a_length_that_fits_ends_the_list() {
        for broken in [&[254][..], &[254, 0, 2, 4], &[254, 1, 2, 4], &[254, 9, 0, 0], &[8, 9, 0, 0]] {
            assert_eq!(names(broken), ["unreadable"], "{broken:?}");
        }
        assert_eq!(names(&[1, 1, 0, 254, 7, 7, 7, 7]), [""; 0], "what follows the end is not read");
    }
}
