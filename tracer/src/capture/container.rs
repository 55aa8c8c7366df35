//! Capture files, plain or compressed, to packets with a time. Reads pcap (both byte orders, micro- and
//! nanoseconds, the modified form) and pcapng (several sections and interfaces). A damaged file gives what
//! stands before the damage. Does not look into packets.

use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, LegacyPcapReader, PcapBlockOwned, PcapError, PcapNGReader};

use crate::nginx::archive::{Archive, ArchiveError};

/// Buffer of one file; a block must fit.
const BUFFER: usize = 1 << 20;
/// A block longer than this is damage (Wireshark's own limit for a packet is 256 KiB).
const LONGEST_BLOCK: usize = 16 << 20;
/// Bytes of a packet that are kept: all headers and the beginning of the payload.
const KEPT: usize = 1024;
/// First bytes of a pcapng section, the same in both byte orders.
const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Block type of the packet block that the enhanced one replaced; old files still have it.
const OLD_PACKET: u32 = 2;
/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// A file that cannot be read as a capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] ArchiveError),
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is neither pcap nor pcapng; editcap of Wireshark turns other kinds of captures into pcap", .0.display())]
    NoCapture(PathBuf),
}

/// One packet as it stands in the file.
#[derive(Debug, Default, Clone)]
pub struct Frame {
    /// Nanoseconds since 1970.
    pub time: u64,
    /// `LINKTYPE_…` (tcpdump.org/linktypes).
    pub link: u32,
    /// Bytes on the wire.
    pub original: u32,
    /// Bytes captured, at most [`KEPT`] of them.
    pub bytes: Vec<u8>,
}

/// How the reading of a file ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// At its end.
    Whole,
    /// In the middle of a packet: the capture was cut off.
    CutOff,
    /// At bytes that are no capture.
    Damaged(&'static str),
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: u32,
    /// Time units per second.
    units: u64,
    offset: i64,
}

/// A capture file that is being read.
pub struct Container {
    /// The file.
    pub path: PathBuf,
    /// How it ended, once it has.
    pub ending: Option<Ending>,
    /// Packets that the capturing system itself says it lost.
    pub dropped: u64,
    /// It says how many packets that system lost (interface statistics of pcapng).
    pub counts_losses: bool,
    /// Packets without a time of their own (simple packet blocks).
    pub timeless: u64,
    reader: Box<dyn PcapReaderIterator>,
    interfaces: Vec<Interface>,
    /// Byte order of the section of a pcapng file.
    big_endian: bool,
    /// Nanoseconds per unit of the fraction in a legacy file.
    fraction: u64,
    latest: u64,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container").field("path", &self.path).finish_non_exhaustive()
    }
}

enum Step {
    Packet,
    Other,
    More,
    End(Ending),
}

impl Container {
    /// Opens `path`; `-` is standard input.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let input = Archive::open(path)?.into_reader();
        Self::of(input, path)
    }

    /// A capture from bytes.
    pub fn of(input: Box<dyn Read>, path: &Path) -> Result<Self, CaptureError> {
        let failed = |source| CaptureError::Read { path: path.to_owned(), source };
        let none = || CaptureError::NoCapture(path.to_owned());
        let (start, input) = peeked(input).map_err(failed)?;
        let compressed = start.starts_with(b"\x1f\x8b");
        let (start, input) =
            if compressed { peeked(unzipped(input)).map_err(failed)? } else { (start, input) };
        let reader: Box<dyn PcapReaderIterator> = if start == SECTION {
            Box::new(PcapNGReader::new(BUFFER, Whole(input)).map_err(|_error| none())?)
        } else {
            Box::new(LegacyPcapReader::new(BUFFER, Whole(input)).map_err(|_error| none())?)
        };
        Ok(Self {
            path: path.to_owned(),
            ending: None,
            dropped: 0,
            counts_losses: false,
            timeless: 0,
            reader,
            interfaces: Vec::new(),
            big_endian: false,
            fraction: 1_000,
            latest: 0,
        })
    }

    /// The next packet, into `frame`. False at the end, whose kind then stands in `ending`.
    pub fn next(&mut self, frame: &mut Frame) -> bool {
        while self.ending.is_none() {
            match self.step(frame) {
                Step::Packet => return true,
                Step::Other => {}
                Step::More => self.ending = self.refill(),
                Step::End(ending) => self.ending = Some(ending),
            }
        }
        false
    }

    fn step(&mut self, frame: &mut Frame) -> Step {
        let (length, is_packet) = match self.reader.next() {
            Ok((length, block)) => {
                let mut reading = Reading {
                    interfaces: &mut self.interfaces,
                    big_endian: &mut self.big_endian,
                    fraction: &mut self.fraction,
                    latest: &mut self.latest,
                    dropped: &mut self.dropped,
                    counts_losses: &mut self.counts_losses,
                    timeless: &mut self.timeless,
                };
                (length, reading.block(&block, frame))
            }
            Err(PcapError::Eof) => return Step::End(Ending::Whole),
            Err(PcapError::Incomplete(_) | PcapError::BufferTooSmall) => return Step::More,
            Err(PcapError::UnexpectedEof) => return Step::End(Ending::CutOff),
            Err(PcapError::ReadError) => return Step::End(Ending::Damaged("it cannot be read any further")),
            Err(_) => return Step::End(Ending::Damaged("what follows is no packet")),
        };
        if length == 0 {
            return Step::End(Ending::Damaged("a block has no length"));
        }
        self.reader.consume_noshift(length);
        if is_packet { Step::Packet } else { Step::Other }
    }

    /// Reads on. Nothing more to read while a block is incomplete means that the file was cut off.
    fn refill(&mut self) -> Option<Ending> {
        let before = self.reader.data().len();
        if self.reader.refill().is_err() {
            return Some(Ending::Damaged("it cannot be read any further"));
        }
        if self.reader.data().len() > before {
            return None;
        }
        if self.reader.reader_exhausted() {
            return Some(if before == 0 { Ending::Whole } else { Ending::CutOff });
        }
        let room = (before * 2).max(BUFFER);
        (room > LONGEST_BLOCK || !self.reader.grow(room)).then_some(Ending::Damaged("a block is too long"))
    }
}

/// What a block changes while a file is read.
struct Reading<'a> {
    interfaces: &'a mut Vec<Interface>,
    big_endian: &'a mut bool,
    fraction: &'a mut u64,
    latest: &'a mut u64,
    dropped: &'a mut u64,
    counts_losses: &'a mut bool,
    timeless: &'a mut u64,
}

impl Reading<'_> {
    /// Whether the block is a packet, which then stands in `frame`.
    fn block(&mut self, block: &PcapBlockOwned<'_>, frame: &mut Frame) -> bool {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                *self.fraction = if header.is_nanosecond_precision() { 1 } else { 1_000 };
                // The upper bits tell of a frame check sequence, not of the link (pcap-linktype(7)).
                let link = header.network.0.cast_unsigned() & 0xffff;
                self.interfaces.push(Interface { link, units: SECOND, offset: 0 });
                false
            }
            PcapBlockOwned::Legacy(packet) => {
                let fraction = u64::from(packet.ts_usec) * *self.fraction;
                let time = (u64::from(packet.ts_sec) * SECOND).saturating_add(fraction);
                self.packet(frame, 0, Some(time), packet.origlen, packet.data, packet.caplen)
            }
            PcapBlockOwned::NG(block) => self.next_generation(block, frame),
        }
    }

    fn next_generation(&mut self, block: &Block<'_>, frame: &mut Frame) -> bool {
        match block {
            Block::SectionHeader(section) => {
                self.interfaces.clear();
                *self.big_endian = section.big_endian();
            }
            Block::InterfaceDescription(interface) => self.interfaces.push(Interface {
                link: interface.linktype.0.cast_unsigned() & 0xffff,
                units: interface.ts_resolution().unwrap_or(1_000_000),
                offset: interface.if_tsoffset,
            }),
            Block::EnhancedPacket(packet) => {
                let raw = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let time = self.interface(packet.if_id).map(|interface| nanoseconds(raw, interface));
                return self.packet(frame, packet.if_id, time, packet.origlen, packet.data, packet.caplen);
            }
            Block::SimplePacket(packet) => {
                *self.timeless += 1;
                return self.packet(frame, 0, None, packet.origlen, packet.data, packet.origlen);
            }
            Block::InterfaceStatistics(statistics) => {
                let counters = [statistics.isb_ifdrop(), statistics.isb_osdrop()];
                *self.counts_losses |= counters.iter().any(Option::is_some);
                *self.dropped += counters.into_iter().flatten().flatten().sum::<u64>();
            }
            // The parser gives the number of an unknown block as little-endian, whatever the section is.
            Block::Unknown(block) if [OLD_PACKET, OLD_PACKET.swap_bytes()].contains(&block.block_type) => {
                return self.old_packet(block.data, frame);
            }
            _ => {}
        }
        false
    }

    /// Interface, losses, time, captured and original length stand before the bytes.
    fn old_packet(&mut self, block: &[u8], frame: &mut Frame) -> bool {
        let Some((fixed, data)) = block.split_first_chunk::<20>() else { return false };
        let big = *self.big_endian;
        let word = |at: usize| {
            let word = [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]];
            if big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
        };
        let first = [fixed[0], fixed[1]];
        let number = u32::from(if big { u16::from_be_bytes(first) } else { u16::from_le_bytes(first) });
        let raw = u64::from(word(4)) << 32 | u64::from(word(8));
        let time = self.interface(number).map(|interface| nanoseconds(raw, interface));
        self.packet(frame, number, time, word(16), data, word(12))
    }

    fn interface(&self, number: u32) -> Option<Interface> {
        self.interfaces.get(usize::try_from(number).ok()?).copied()
    }

    fn packet(
        &mut self,
        frame: &mut Frame,
        interface: u32,
        time: Option<u64>,
        original: u32,
        data: &[u8],
        captured: u32,
    ) -> bool {
        let Some(Interface { link, .. }) = self.interface(interface) else { return false };
        let captured = usize::try_from(captured).unwrap_or(0).min(data.len()).min(KEPT);
        frame.time = time.unwrap_or(*self.latest);
        frame.link = link;
        frame.original = original;
        frame.bytes.clear();
        frame.bytes.extend_from_slice(&data[..captured]);
        *self.latest = frame.time;
        true
    }
}

fn nanoseconds(raw: u64, interface: Interface) -> u64 {
    let units = u128::from(interface.units.max(1));
    let time = u128::from(raw) * u128::from(SECOND) / units;
    let offset = i128::from(interface.offset) * i128::from(SECOND);
    let time = i128::try_from(time).unwrap_or(i128::MAX).saturating_add(offset);
    u64::try_from(time.max(0)).unwrap_or(u64::MAX)
}

/// The first four bytes, and a reader that begins with them.
fn peeked(mut input: Box<dyn Read>) -> io::Result<([u8; 4], Box<dyn Read>)> {
    let mut start = Vec::with_capacity(4);
    input.by_ref().take(4).read_to_end(&mut start)?;
    let mut first = [0; 4];
    first[..start.len()].copy_from_slice(&start);
    Ok((first, Box::new(Cursor::new(start).chain(input))))
}

fn unzipped(input: Box<dyn Read>) -> Box<dyn Read> {
    Box::new(MultiGzDecoder::new(BufReader::new(input)))
}

/// Gives as many bytes as are asked for, so that a header is not cut where two readers meet.
struct Whole(Box<dyn Read>);

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What was read before a broken end of a compressed file still counts.
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
