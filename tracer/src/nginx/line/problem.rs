//! What can be wrong with a line. A problem never stops the reading.

/// Something about a line that the reader could not take at its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Problem {
    /// No `YYYY/MM/DD HH:MM:SS` was found.
    #[error("no time stamp")]
    NoTime,
    /// The date does not exist.
    #[error("the time stamp is not a date")]
    BadTime,
    /// The local time occurs twice or not at all in its zone.
    #[error("the local time is ambiguous in its time zone")]
    AmbiguousTime,
    /// No `[level]` was found.
    #[error("no level")]
    NoLevel,
    /// No `pid#tid:` was found.
    #[error("no process id")]
    NoProcess,
    /// A number does not fit its type.
    #[error("a number is out of range")]
    NumberTooLarge,
    /// The line is neither Nginx's nor anything known.
    #[error("not a line of Nginx: no head and no known message")]
    NotALine,
    /// The line ends inside a field.
    #[error("the line is cut inside a field")]
    Cut,
    /// Nginx shortened the message to make room for the errno.
    #[error("Nginx shortened the message")]
    MessageCut,
    /// A field stands a second time, where only a client or upstream can have written it.
    #[error("a field name occurs again inside text that others control; the first one counts")]
    RepeatedField,
    /// Text after the last field.
    #[error("unread text after the last field")]
    TrailingText,
    /// `client:` is not an address.
    #[error("the client is not an address")]
    ClientNotAnAddress,
    /// Bytes that are not UTF-8 were replaced.
    #[error("bytes that are not UTF-8 were replaced")]
    NotUtf8,
    /// The number of the errno is not Linux's; it is kept as printed beside its translation.
    #[error("the errno is that of another system")]
    ForeignErrno,
}
