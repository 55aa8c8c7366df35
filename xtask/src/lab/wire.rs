//! A long link: two TAP devices, and a thread that carries each frame over after a delay. Not every kernel has netem.

use anyhow::{Context, Result, bail};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The largest frame of a device with the usual MTU, with room for tags.
const FRAME: usize = 2048;

/// A link that takes its time, in both directions. It is cut when this is dropped.
#[derive(Debug)]
pub struct Wire {
    /// Names of the devices at its ends, in the network namespace of the caller; they can be moved and renamed.
    pub ends: [String; 2],
    stop: OwnedFd,
    carrier: Option<JoinHandle<()>>,
}

impl Wire {
    /// Lays a link on which every frame takes this long.
    pub fn lay(delay: Duration) -> Result<Self> {
        let ((left, left_name), (right, right_name)) = (tap()?, tap()?);
        let stop = eventfd(0, EventfdFlags::CLOEXEC).context("cannot make an eventfd")?;
        let stopped = stop.try_clone().context("cannot copy an eventfd")?;
        let ways = [Way::new(left.try_clone()?, right.try_clone()?, delay), Way::new(right, left, delay)];
        let carrier = std::thread::spawn(move || carry(ways, &stopped));
        Ok(Self { ends: [left_name, right_name], stop, carrier: Some(carrier) })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let told = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(carrier) = self.carrier.take().filter(|_| told.is_ok()) {
            let _it_has_nothing_to_say = carrier.join();
        }
    }
}

/// One direction.
struct Way {
    from: OwnedFd,
    to: OwnedFd,
    delay: Duration,
    /// Under way, with the moment when each arrives.
    frames: VecDeque<(Instant, Vec<u8>)>,
}

impl Way {
    fn new(from: OwnedFd, to: OwnedFd, delay: Duration) -> Self {
        Self { from, to, delay, frames: VecDeque::new() }
    }

    /// Takes every frame that was sent. The windows of the connections bound what is under way.
    fn take(&mut self) {
        let mut frame = [0; FRAME];
        while let Ok(length) = rustix::io::read(&self.from, &mut frame) {
            self.frames.push_back((Instant::now() + self.delay, frame[..length].to_vec()));
        }
    }

    /// Hands over what has been under way for long enough. A device that is down takes nothing: lost, as on a cable.
    fn hand_over(&mut self) {
        let now = Instant::now();
        while let Some((_, frame)) = self.frames.pop_front_if(|(arrival, _)| *arrival <= now) {
            let _down = rustix::io::write(&self.to, &frame);
        }
    }
}

fn carry(mut ways: [Way; 2], stop: &OwnedFd) {
    loop {
        let next = ways.iter().filter_map(|way| Some(way.frames.front()?.0)).min();
        let wait = next.map(|arrival| arrival.saturating_duration_since(Instant::now()));
        let timeout = wait.and_then(|wait| Timespec::try_from(wait).ok());
        let mut waiting =
            [PollFd::new(stop, PollFlags::IN), readable(&ways[0].from), readable(&ways[1].from)];
        match poll(&mut waiting, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return crate::out::complain(format_args!("a long link is cut: {error}")),
        }
        let [stopped, ..] = waiting.map(|one| !one.revents().is_empty());
        if stopped {
            return;
        }
        for way in &mut ways {
            way.take();
            way.hand_over();
        }
    }
}

fn readable(device: &OwnedFd) -> PollFd<'_> {
    PollFd::new(device, PollFlags::IN)
}

/// A new TAP device that goes with its descriptor, and its name.
fn tap() -> Result<(OwnedFd, String)> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device =
        rustix::fs::open("/dev/net/tun", flags, Mode::empty()).context("cannot open /dev/net/tun")?;
    // SAFETY: a structure of numbers and bytes, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"wire%d") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request lives through the call, which writes the name into it.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if done != 0 {
        bail!("cannot make a TAP device: {}", std::io::Error::last_os_error());
    }
    // SAFETY: the kernel ends the name with a zero within its 16 bytes.
    let name = unsafe { CStr::from_ptr(request.ifr_name.as_ptr()) };
    Ok((device, name.to_string_lossy().into_owned()))
}
