//! Whether typed programs may touch arguments of `tcp_send_reset` that can be null.
//!
//! From 6.2 on the verifier trusts the arguments of typed tracepoints, from 6.5 on it deletes tests for null of what it
//! trusts, and only since 6.13 (and late 6.12) does it know which of them can be null. In between such a test is no
//! protection, and the load behind it brings the kernel down. So nothing is concluded from versions: two programs that
//! dereference without a test are offered to the verifier, and never attached. If it refuses them because of null, it
//! knows. A kernel without trusted pointers makes every such load safe by itself.

use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Btf, Ebpf};

use super::btf::KernelTypes;

/// The tracepoint whose arguments are in question.
const TRACEPOINT: &str = "tcp_send_reset";
/// Its arguments: the program that dereferences each without a test.
const PROBES: [&str; 2] = ["null_probe_socket", "null_probe_packet"];
/// Arguments of the tracepoint from which on the socket can be null, too (6.10).
const WITH_REASON: usize = 3;
/// Part of what the verifier calls a pointer that can be null.
const OR_NULL: &str = "or_null";

/// `Err` says why typed programs must keep away from them.
pub fn check(ebpf: &mut Ebpf, btf: &Btf, types: &KernelTypes) -> Result<(), String> {
    if !types.has_value("bpf_type_flag", "PTR_TRUSTED") {
        return Ok(());
    }
    let socket_too = types.tracepoint(TRACEPOINT).is_some_and(|arguments| arguments.len() >= WITH_REASON);
    let probes = if socket_too { &PROBES[..] } else { &PROBES[1..] };
    for name in probes {
        let program = ebpf.program_mut(name).ok_or("the kernel object has no such program")?;
        let program: &mut BtfTracePoint =
            program.try_into().map_err(|error: ProgramError| error.to_string())?;
        let loaded = program.load(TRACEPOINT, btf);
        judge(&loaded)?;
    }
    Ok(())
}

fn judge(loaded: &Result<(), ProgramError>) -> Result<(), String> {
    match loaded {
        Err(ProgramError::LoadError { verifier_log, .. }) if verifier_log.to_string().contains(OR_NULL) => {
            Ok(())
        }
        Err(error) => Err(format!("whether arguments can be null could not be found out: {error}")),
        Ok(()) => Err("this kernel's verifier does not know which arguments can be null; \
                       a typed program could bring the host down"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_taken_means_danger() {
        assert!(judge(&Ok(())).unwrap_err().contains("bring the host down"));
    }
}
