//! What cargo alone cannot do. This file only names the sub-commands; each lives in a module of its own.

mod attend;
mod bench;
mod cross;
mod debian;
mod demo;
mod dist;
mod host;
mod lab;
mod out;
mod peer;
mod project;
mod setup;
mod shell;
mod suite;
mod vm;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, checks and lab of rstscope")]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building, checking and the lab need (Debian 12).
    Setup(setup::Options),
    /// Produce faults of known origin and compare the tracer's verdicts with them (root).
    Lab(lab::Options),
    /// `rstscope doctor`, its self-test, and the ways to the log, with a real Nginx (root).
    Host(host::Options),
    /// Five causes at once at a high rate: is every record right, and is what is missing counted? (root)
    Storm(lab::storm::Options),
    /// Set up, build, and show one fault after the other with the tracer's verdicts (root).
    Demo(demo::Options),
    /// Format, lints, unit tests, tidiness, schema and lab; the last line is the count.
    Test(suite::Options),
    /// The lab on other kernels, in virtual machines.
    Vm(vm::Options),
    /// The packages: deb, rpm, and what a container needs.
    Dist(dist::Options),
    #[command(hide = true, about = "The daemon's check, inside its namespaces")]
    Attend(attend::Namespaces),
    /// The daemon under mixed traffic for a while: memory, descriptors, and its counts against the kernel's (root).
    Soak(attend::soak::Options),
    /// Measure what watching costs (root); not part of the tests.
    Bench(bench::Options),
    #[command(hide = true, about = "The first program inside such a machine")]
    VmGuest(vm::GuestOptions),
    #[command(hide = true, about = "One end of the lab's connections")]
    Peer,
}

fn main() -> ExitCode {
    let done = match Options::parse().task {
        Task::Setup(options) => setup::run(&options),
        Task::Lab(options) => lab::run(&options),
        Task::Host(options) => host::run(&options),
        Task::Storm(options) => lab::storm::run(&options),
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => suite::run(&options),
        Task::Vm(options) => vm::run(&options),
        Task::Dist(options) => dist::run(&options),
        Task::Attend(options) => attend::run(&options),
        Task::Soak(options) => attend::soak::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::VmGuest(options) => vm::guest(&options),
        Task::Peer => peer::run(),
    };
    done.unwrap_or_else(|error| {
        out::complain(format_args!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
