//! The table of Nginx's connections, by socket cookie, in two parts.
//!
//! `CONNS` has a slot for each connection, the one of the last bits of its cookie: finding, adding and removing take a
//! few instructions, where the kernel's hash table takes a tenth of a microsecond for each of the latter. Cookies are
//! numbered in sequence, so slots meet only where there are more connections than slots, or one lives on while
//! thousands come and go. Then the later one goes to `MORE_CONNS`, a hash table.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use rstscope_ebpf::abi::{Conn, Counter, Slot};

use super::globals::config;
use super::maps::{CONNS, MORE_CONNS, MORE_CONNS_HELD, NEW_CONNS, count};

/// Who adds: the former runs in process context, the latter in softirq context, which may interrupt the former.
#[derive(Clone, Copy)]
pub enum Opened {
    ByNginx = 0,
    ByPeer = 1,
}

/// What the table knows of a cookie.
#[inline(always)]
pub fn find(cookie: u64) -> Option<&'static mut Conn> {
    if cookie == 0 {
        return None;
    }
    let slot = slot(cookie)?;
    // SAFETY: a slot lives as long as its map. It goes to another connection only when its socket is gone, which the
    // programs of that socket outlive.
    unsafe {
        if read(&raw const (*slot).cookie) == cookie {
            return Some(&mut (*slot).conn);
        }
    }
    if !has_more() {
        return None;
    }
    // SAFETY: likewise.
    MORE_CONNS.get_ptr_mut(cookie).map(|entry| unsafe { &mut *entry })
}

/// Adds a connection that `describe` fills in, or counts that there is no room for it.
#[inline(always)]
pub fn add(cookie: u64, opened: Opened, describe: impl FnOnce(&mut Conn)) {
    if cookie == 0 {
        return;
    }
    let Some(slot) = slot(cookie) else { return };
    let at_hand = claim(slot, cookie);
    let conn = if at_hand {
        // SAFETY: the slot is ours.
        unsafe { &raw mut (*slot).conn }
    } else {
        let Some(conn) = NEW_CONNS.get_ptr_mut(opened as u32) else { return };
        conn
    };
    // SAFETY: the slot's only user, or a per-CPU value of its only user.
    let conn = unsafe { &mut *conn };
    reset(conn);
    describe(conn);
    let kept = at_hand || add_to_more(cookie, conn);
    count(if kept { Counter::Connections } else { Counter::ConnectionsRefused }, 1);
}

/// Removes a connection, if it was one.
#[inline(always)]
pub fn remove(cookie: u64) {
    if cookie == 0 {
        return;
    }
    let Some(slot) = slot(cookie) else { return };
    // SAFETY: a slot lives as long as its map.
    if unsafe { read(&raw const (*slot).cookie) } == cookie {
        release(slot, cookie);
    } else if has_more() && MORE_CONNS.remove(cookie).is_ok() {
        hold_more(-1);
    }
}

#[inline(always)]
fn slot(cookie: u64) -> Option<*mut Slot> {
    CONNS.get_ptr_mut(cookie as u32 & config!(conn_slot_mask))
}

/// Takes a free slot. Where two take it at once the sum is the cookie of neither, and both let go again: not every
/// kernel that is supported has an exchange (5.12).
#[inline(always)]
fn claim(slot: *mut Slot, cookie: u64) -> bool {
    // SAFETY: a slot lives as long as its map.
    let holder = unsafe { read(&raw const (*slot).cookie) };
    if holder != 0 {
        return holder == cookie; // A socket that connects once more.
    }
    add_to(slot.cast(), cookie);
    // SAFETY: as above.
    let ours = unsafe { read(&raw const (*slot).cookie) } == cookie;
    if !ours {
        release(slot, cookie);
    }
    ours
}

#[inline(always)]
fn release(slot: *mut Slot, cookie: u64) {
    add_to(slot.cast(), cookie.wrapping_neg());
}

/// What a connection begins with; the SYN-ACK's bytes mean nothing while its length is zero.
#[inline(always)]
fn reset(conn: &mut Conn) {
    conn.opened_ns = 0;
    conn.owner_pid = 0;
    conn.side = 0;
    conn.preexisting = 0;
    conn.reset_seen = 0;
    conn.repeats = 0;
    conn.comm = [0; 16];
    conn.syn_ack.len = 0;
}

#[inline(always)]
fn add_to_more(cookie: u64, conn: &Conn) -> bool {
    hold_more(1);
    let added = MORE_CONNS.insert(cookie, conn, 0).is_ok();
    if !added {
        hold_more(-1);
    }
    added
}

/// Whether there are connections in `MORE_CONNS`: those that user space put there and those of the programs, less
/// what has gone.
#[inline(always)]
fn has_more() -> bool {
    let word = |at| {
        // SAFETY: a map value of one word.
        MORE_CONNS_HELD.get_ptr(at).map_or(0, |word| unsafe { read(word) })
    };
    word(Slot::HELD_BY_PROGRAMS).wrapping_add(word(Slot::HELD_FROM_BEFORE)) != 0
}

#[inline(always)]
fn hold_more(by: i64) {
    if let Some(held) = MORE_CONNS_HELD.get_ptr_mut(Slot::HELD_BY_PROGRAMS) {
        add_to(held, by as u64);
    }
}

/// Adds in one step that nobody interrupts.
#[inline(always)]
fn add_to(word: *mut u64, by: u64) {
    // SAFETY: an aligned word of a map value.
    let _not_known_before_5_12 = unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(word, by) };
}

/// # Safety
///
/// `word` is one of a map value.
#[inline(always)]
unsafe fn read(word: *const u64) -> u64 {
    // SAFETY: as promised by the caller; volatile, because other CPUs write it.
    unsafe { word.read_volatile() }
}
