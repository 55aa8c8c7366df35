//! Reads the kernel's type information (BTF) by name: member offsets, enum values, tracepoint prototypes.
//!
//! aya loads BTF for the verifier but does not expose members; this reads just what the hooks need.
//! It does not relocate programs. Format: `include/uapi/linux/btf.h`.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::{fs, io};

use thiserror::Error;

const MAGIC: u16 = 0xeb9f;
/// A chain of modifiers or nested anonymous members longer than this is damaged data.
const DEPTH: usize = 32;

const KIND_PTR: u32 = 2;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Why type information could not be used.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file could not be read.
    #[error(
        "cannot read the kernel's type information (BTF) from {path}: {source}; --btf FILE names another"
    )]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// The bytes are not BTF of this byte order.
    #[error("{path} is not BTF of this machine's byte order")]
    Format {
        /// The file.
        path: String,
    },
}

#[derive(Debug, Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    /// Members, parameters or values.
    count: usize,
    /// Member offsets carry a bit-field size in their high byte.
    bitfields: bool,
    /// `size` or `type`, depending on the kind.
    target: u32,
    /// Where the data behind the type begins.
    data: usize,
}

/// The kernel's types, which are more than a hundred thousand: each is read anew where it is asked for.
#[derive(Debug)]
pub struct KernelTypes {
    bytes: Vec<u8>,
    /// Where each type begins.
    types: Vec<u32>,
    strings: usize,
    /// Types that are found by name: the hash of kind and name, and the number of the type, in this order.
    by_name: Vec<(u32, u32)>,
}

impl KernelTypes {
    /// Reads a BTF file, `/sys/kernel/btf/vmlinux` on most hosts.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let name = path.display().to_string();
        let bytes = fs::read(path).map_err(|source| BtfError::Read { path: name.clone(), source })?;
        Self::parse(bytes).ok_or(BtfError::Format { path: name })
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        if bytes.get(..2)? != MAGIC.to_ne_bytes() {
            return None;
        }
        let header = word(&bytes, 4)? as usize;
        let types_at = header + word(&bytes, 8)? as usize;
        let types_end = types_at + word(&bytes, 12)? as usize;
        let strings = header + word(&bytes, 16)? as usize;
        let types = scan(&bytes, types_at, types_end)?;
        let mut this = Self { bytes, types, strings, by_name: Vec::new() };
        this.by_name = this.index();
        Some(this)
    }

    /// The file as it was read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn index(&self) -> Vec<(u32, u32)> {
        let wanted = |kind| matches!(kind, KIND_STRUCT | KIND_ENUM | KIND_ENUM64 | KIND_TYPEDEF);
        let numbers = 1..u32::try_from(self.types.len()).unwrap_or(u32::MAX);
        let entry = |number: u32| {
            let of = self.type_of(number as usize).filter(|of| of.name != 0 && wanted(of.kind))?;
            Some((hash(of.kind, self.name(of)), number))
        };
        let mut index: Vec<(u32, u32)> = numbers.filter_map(entry).collect();
        index.sort_unstable();
        index
    }

    /// The first type of this kind and name.
    fn find(&self, kind: u32, name: &str) -> Option<usize> {
        let wanted = hash(kind, name.as_bytes());
        let from = self.by_name.partition_point(|(hash, _)| *hash < wanted);
        let same = self.by_name.iter().skip(from).take_while(|(hash, _)| *hash == wanted);
        let mut numbers = same.map(|(_, number)| *number as usize);
        numbers.find(|number| {
            self.type_of(*number).is_some_and(|of| of.kind == kind && self.name(of) == name.as_bytes())
        })
    }

    fn type_of(&self, number: usize) -> Option<Type> {
        Type::read(&self.bytes, *self.types.get(number)? as usize)
    }

    fn name(&self, of: Type) -> &[u8] {
        string(&self.bytes, self.strings, of.name)
    }

    /// Offset in bits of `path` (members joined by dots) in `struct name`. Anonymous members are looked through.
    pub fn offset_bits(&self, structure: &str, path: &str) -> Option<u32> {
        let mut of = self.find(KIND_STRUCT, structure)?;
        let mut bits = 0;
        for member in path.split('.') {
            let (offset, next) = self.member(of, member, 0)?;
            bits += offset;
            of = self.resolve(next)?;
        }
        Some(bits)
    }

    /// Whether a member of `struct name` is a bit-field; `None` if there is no such member, or an anonymous one in between.
    pub fn is_bitfield(&self, structure: &str, member: &str) -> Option<bool> {
        let of = self.type_of(self.find(KIND_STRUCT, structure)?)?;
        let found = (0..of.count).map(|index| of.data + index * 12).find(|at| {
            let name = word(&self.bytes, *at).map(|name| string(&self.bytes, self.strings, name));
            name == Some(member.as_bytes())
        })?;
        Some(of.bitfields && word(&self.bytes, found + 8)? >> 24 != 0)
    }

    /// Whether there is an enum value of this name in `enum name`.
    pub fn has_value(&self, enumeration: &str, value: &str) -> bool {
        self.enum_names(enumeration).values().any(|name| name == value)
    }

    /// Whether there is such a structure with such a member.
    pub fn has_member(&self, structure: &str, path: &str) -> bool {
        self.offset_bits(structure, path).is_some()
    }

    fn member(&self, of: usize, name: &str, depth: usize) -> Option<(u32, usize)> {
        let of = self.type_of(of)?;
        if depth > DEPTH || !matches!(of.kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        (0..of.count).find_map(|index| {
            let at = of.data + index * 12;
            let member_name = string(&self.bytes, self.strings, word(&self.bytes, at)?);
            let target = word(&self.bytes, at + 4)? as usize;
            let raw = word(&self.bytes, at + 8)?;
            let bits = if of.bitfields { raw & 0x00ff_ffff } else { raw };
            if member_name == name.as_bytes() {
                return Some((bits, target));
            }
            if !member_name.is_empty() {
                return None;
            }
            let (inner, target) = self.member(self.resolve(target)?, name, depth + 1)?;
            Some((bits + inner, target))
        })
    }

    /// Looks through typedefs and qualifiers.
    fn resolve(&self, mut id: usize) -> Option<usize> {
        for _ in 0..DEPTH {
            let of = self.type_of(id)?;
            match of.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = of.target as usize;
                }
                _ => return Some(id),
            }
        }
        None
    }

    /// Values of `enum name`, by number.
    pub fn enum_names(&self, name: &str) -> HashMap<u32, String> {
        let found = [KIND_ENUM, KIND_ENUM64].into_iter().find_map(|kind| self.find(kind, name));
        let Some(of) = found.and_then(|id| self.type_of(id)) else { return HashMap::new() };
        let size = if of.kind == KIND_ENUM64 { 12 } else { 8 };
        (0..of.count)
            .filter_map(|index| {
                let at = of.data + index * size;
                let name = string(&self.bytes, self.strings, word(&self.bytes, at)?);
                Some((word(&self.bytes, at + 4)?, String::from_utf8_lossy(name).into_owned()))
            })
            .collect()
    }

    /// Arguments of a tracepoint after `void *__data`: for each, whether it is a pointer.
    /// `None` if the kernel has no such tracepoint.
    pub fn tracepoint(&self, name: &str) -> Option<Vec<bool>> {
        let typedef = self.find(KIND_TYPEDEF, &format!("btf_trace_{name}"))?;
        let pointer = self.type_of(self.type_of(typedef)?.target as usize)?;
        let proto = self.type_of(pointer.target as usize).filter(|of| of.kind == KIND_FUNC_PROTO)?;
        (1..proto.count)
            .map(|index| {
                let target = word(&self.bytes, proto.data + index * 8 + 4)? as usize;
                Some(self.type_of(self.resolve(target)?)?.kind == KIND_PTR)
            })
            .collect()
    }
}

impl Type {
    /// `void`, which is number zero and stands nowhere.
    const VOID: Self = Self { name: 0, kind: 0, count: 0, bitfields: false, target: 0, data: 0 };

    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        if at == 0 {
            return Some(Self::VOID);
        }
        let info = word(bytes, at + 4)?;
        Some(Self {
            name: word(bytes, at)?,
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            bitfields: info >> 31 == 1,
            target: word(bytes, at + 8)?,
            data: at + 12,
        })
    }
}

/// Where each type begins; before the first is the header.
fn scan(bytes: &[u8], mut at: usize, end: usize) -> Option<Vec<u32>> {
    let mut types = vec![0];
    while at < end {
        let of = Type::read(bytes, at)?;
        types.push(u32::try_from(at).ok()?);
        at = of.data + data_size(of.kind, of.count)?;
    }
    Some(types)
}

fn hash(kind: u32, name: &[u8]) -> u32 {
    let mut hasher = DefaultHasher::new();
    (kind, name).hash(&mut hasher);
    hasher.finish() as u32
}

/// Bytes behind a type; `None` for a kind this reader does not know, after which nothing can be found.
fn data_size(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        1 | 14 | 17 => 4,
        3 => 12,
        KIND_STRUCT | KIND_UNION | 15 | KIND_ENUM64 => count * 12,
        KIND_ENUM | KIND_FUNC_PROTO => count * 8,
        KIND_PTR | 7..=12 | 16 | KIND_TYPE_TAG => 0,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn string(bytes: &[u8], strings: usize, at: u32) -> &[u8] {
    let text = bytes.get(strings + at as usize..).unwrap_or_default();
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hand-made BTF: `struct outer { int a; struct { int b; } ; }` and `enum skb_drop_reason { X = 7 }`.
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0skb_drop_reason\0X\0int\0";
        let name = |text: &str| {
            let needle: Vec<u8> = [b"\0", text.as_bytes(), b"\0"].concat();
            strings.windows(needle.len()).position(|window| window == needle).unwrap() as u32 + 1
        };
        let mut types: Vec<u32> = vec![name("int"), 1 << 24, 4, 32];
        types.extend([0, KIND_STRUCT << 24 | 1, 4, name("b"), 1, 0]);
        types.extend([name("outer"), KIND_STRUCT << 24 | 2, 8, name("a"), 1, 0, 0, 2, 32]);
        types.extend([name("skb_drop_reason"), KIND_ENUM << 24 | 1, 4, name("X"), 7]);
        let bytes: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let header = [24, 0, bytes.len() as u32, bytes.len() as u32, strings.len() as u32];
        let mut all = MAGIC.to_ne_bytes().to_vec();
        all.extend([1, 0]);
        all.extend(header.iter().flat_map(|word| word.to_ne_bytes()));
        all.extend(bytes);
        all.extend(strings);
        all
    }

    #[test]
    fn anonymous_members_are_looked_through() {
        let types = KernelTypes::parse(sample()).unwrap();
        assert_eq!(types.offset_bits("outer", "a"), Some(0));
        assert_eq!(types.offset_bits("outer", "b"), Some(32));
        assert_eq!(types.offset_bits("outer", "c"), None);
        assert_eq!(types.offset_bits("other", "a"), None);
    }

    #[test]
    fn enum_values_are_found_by_name() {
        let types = KernelTypes::parse(sample()).unwrap();
        assert_eq!(types.enum_names("skb_drop_reason").get(&7).map(String::as_str), Some("X"));
        assert!(types.enum_names("sk_rst_reason").is_empty());
        assert!(types.has_value("skb_drop_reason", "X") && !types.has_value("skb_drop_reason", "Y"));
    }

    #[test]
    fn a_whole_member_is_no_bit_field() {
        let types = KernelTypes::parse(sample()).unwrap();
        assert_eq!(types.is_bitfield("outer", "a"), Some(false));
        assert_eq!(types.is_bitfield("outer", "none"), None);
    }

    #[test]
    fn damaged_type_information_is_refused() {
        assert!(KernelTypes::parse(b"no type information".to_vec()).is_none());
        let mut cut = sample();
        cut.truncate(60);
        assert!(KernelTypes::parse(cut).is_none());
    }
}
