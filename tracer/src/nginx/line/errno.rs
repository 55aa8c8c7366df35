//! Errno numbers of other systems, translated to Linux. Texts are not used to find a number (musl and Windows word
//! them differently); only the numbers of BSD and Solaris need theirs, because on Linux they mean something else.

/// Windows socket errors (`winsock2.h`) and their Linux numbers.
const WINDOWS: &[(u32, u32)] = &[
    (10004, 4),
    (10013, 13),
    (10024, 24),
    (10035, 11),
    (10048, 98),
    (10049, 99),
    (10050, 100),
    (10051, 101),
    (10053, 103),
    (10054, 104),
    (10055, 105),
    (10057, 107),
    (10058, 108),
    (10060, 110),
    (10061, 111),
    (10064, 112),
    (10065, 113),
];

/// BSD and macOS numbers, the beginning of their text, and the Linux numbers.
const BSD: &[(u32, &str, u32)] = &[
    (35, "Resource temporarily unavailable", 11),
    (48, "Address already in use", 98),
    (49, "Can't assign requested address", 99),
    (50, "Network is down", 100),
    (51, "Network is unreachable", 101),
    (53, "Software caused connection abort", 103),
    (54, "Connection reset by peer", 104),
    (55, "No buffer space available", 105),
    (57, "Socket is not connected", 107),
    (60, "Operation timed out", 110),
    (61, "Connection refused", 111),
    (64, "Host is down", 112),
    (65, "No route to host", 113),
];

/// Solaris and illumos numbers, the beginning of their text, and the Linux numbers.
const SOLARIS: &[(u32, &str, u32)] = &[
    (125, "Address already in use", 98),
    (126, "Cannot assign requested address", 99),
    (127, "Network is down", 100),
    (128, "Network is unreachable", 101),
    (130, "Software caused connection abort", 103),
    (131, "Connection reset by peer", 104),
    (132, "No buffer space available", 105),
    (134, "Transport endpoint is not connected", 107),
    (145, "Connection timed out", 110),
    (146, "Connection refused", 111),
    (147, "Host is down", 112),
    (148, "No route to host", 113),
];

/// The Linux number of a printed errno.
pub(super) fn linux(number: u32, text: &[u8]) -> u32 {
    let windows = WINDOWS.iter().find(|row| row.0 == number).map(|row| row.1);
    let mut worded = BSD.iter().chain(SOLARIS);
    let other = || worded.find(|row| row.0 == number && text.starts_with(row.1.as_bytes())).map(|row| row.2);
    windows.or_else(other).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_numbers_are_translated() {
        assert_eq!(linux(54, b"Connection reset by peer"), 104);
        assert_eq!(linux(54, b"Exchange full"), 54);
        assert_eq!(linux(10054, b""), 104);
        assert_eq!(linux(131, b"Connection reset by peer"), 104);
        assert_eq!(linux(131, b"State not recoverable"), 131);
        assert_eq!(linux(110, b"Operation timed out"), 110);
    }
}
