//! What stands behind a verdict as bytes of a row: the JSON of its [`Dossier`], compressed (zlib, RFC 1950). Pure.
//!
//! JSON, for the reason that recordings are JSON: a newer version reads what an older one wrote.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use crate::engine::Dossier;

/// Longest packed dossier that is kept, bytes. The bounds of an incident keep ordinary ones below a tenth of it.
const MOST_PACKED: usize = 64 << 10;
/// Longest JSON that is unpacked, bytes: a store is a file, and files come from anywhere.
const MOST_JSON: u64 = 8 << 20;

/// The bytes; `None` where they would be too many.
pub fn pack(dossier: &Dossier) -> Option<Vec<u8>> {
    let json = serde_json::to_vec(dossier).ok()?;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&json).ok()?;
    encoder.finish().ok().filter(|bytes| bytes.len() <= MOST_PACKED)
}

/// What was packed; `None` for bytes that are none of [`pack`].
pub fn unpack(bytes: &[u8]) -> Option<Dossier> {
    let mut json = Vec::new();
    ZlibDecoder::new(bytes).take(MOST_JSON).read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{active_reset, play_witnessing, received, upstream};

    #[test]
    fn a_dossier_comes_back_whole_and_other_bytes_do_not() {
        let reset = received(100, upstream(), Some(active_reset(&upstream())));
        let (_, dossiers) = play_witnessing(vec![reset]);
        for dossier in &dossiers {
            let packed = pack(dossier).unwrap();
            assert_eq!(unpack(&packed).as_ref(), Some(dossier));
            assert_eq!(unpack(&packed[..packed.len() - 9]), None);
        }
        assert!(!dossiers.is_empty());
        assert_eq!(unpack(b"{}"), None);
    }

    #[test]
    fn what_unpacks_without_end_is_refused() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![b' '; usize::try_from(MOST_JSON).unwrap() + 10]).unwrap();
        encoder.write_all(b"{}").unwrap();
        assert_eq!(unpack(&encoder.finish().unwrap()), None);
    }
}
