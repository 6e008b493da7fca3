//! The seeded simulation: writers that die, sleep and fence each other, a source that forgets, a target
//! whose replies get lost, and checkers for every invariant after every commit.
//!
//! A seed decides everything; the same seed gives the same run.
//!
//! - `SIM_SEEDS=5000 cargo test --test sim` runs that many seeds.
//! - `SIM_SEED=17 cargo test --test sim one_seed -- --ignored --nocapture` replays one and prints what
//!   happens (`SIM_SEED=17 make sim` does the same).
//! - `SIM_BASE=…` is added to every seed: a commit's hash gives each commit other seeds.

#![expect(
    unreachable_pub,
    clippy::cast_possible_truncation,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test of several files, with small numbers, that says what it does"
)]

mod check;
mod driver;
mod exec;
mod rng;
mod sim;
mod source;
mod store;
mod world;
mod writer;

use sim::run;
use std::collections::BTreeMap;
use strandline::replication::{InvariantId, Mutant};
use world::{Broken, Fault, SITUATIONS};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let digits = text.trim().trim_start_matches("0x");
    digits.parse().or_else(|_| u64::from_str_radix(&digits[..digits.len().min(15)], 16)).ok()
}

fn seeds(default: u64) -> impl Iterator<Item = u64> {
    let base = number("SIM_BASE").unwrap_or(0);
    (0..number("SIM_SEEDS").unwrap_or(default)).map(move |seed| base.wrapping_add(seed))
}

/// Replays one seed, with a trace.
#[test]
#[ignore = "replays the seed that SIM_SEED names"]
fn one_seed() {
    let seed = number("SIM_SEED").expect("SIM_SEED names the seed");
    let outcome = run(seed, None, true);
    assert_eq!(outcome.violation, None, "SIM_SEED={seed}");
}

/// Every invariant holds for every seed, and every situation that matters was reached.
#[test]
fn every_invariant_holds() {
    let mut reached: BTreeMap<&str, u64> = SITUATIONS.iter().map(|&name| (name, 0)).collect();
    let mut count = 0;
    for seed in seeds(2_000) {
        let outcome = run(seed, None, false);
        assert_eq!(outcome.violation, None, "replay with SIM_SEED={seed}");
        for (name, times) in outcome.reached {
            *reached.entry(name).or_default() += times;
        }
        count += 1;
    }
    println!("{count} seeds; reached:");
    for (name, times) in &reached {
        println!("  {times:>8}  {name}");
    }
    let missed: Vec<_> = reached.iter().filter(|(_, times)| **times == 0).collect();
    // A few seeds cannot reach everything.
    assert!(missed.is_empty() || count < 1_000, "never reached: {missed:?}");
}

/// The same seed gives the same run.
#[test]
fn a_seed_replays_exactly() {
    for seed in 0..5 {
        let (first, second) = (run(seed, None, false), run(seed, None, false));
        assert_eq!(first.steps, second.steps, "seed {seed}");
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
}

/// For each invariant one broken build; the simulation says which one is broken.
#[test]
fn every_broken_build_is_caught() {
    use InvariantId as Id;
    let builds = [
        (Fault::Library(Mutant::AcknowledgeEarly), Id::Ck1),
        (Fault::PartialTransaction, Id::Ck2),
        (Fault::Library(Mutant::UnitFromPipeline), Id::Ck3),
        (Fault::IgnoreFence, Id::Ck4),
        (Fault::Library(Mutant::ForgetTablePosition), Id::Ck5),
        (Fault::TrustSource, Id::Ln1),
        (Fault::NewestSchema, Id::Sc1),
        (Fault::CopyClaimsLater, Id::Sn1),
        (Fault::FirstWins, Id::Or1),
        (Fault::Clamp, Id::Va1),
        (Fault::DropTruncate, Id::Dl1),
        (Fault::Library(Mutant::EndlessUnits), Id::Bd1),
        (Fault::Library(Mutant::CutNamesNewest), Id::Ct1),
    ];
    assert_eq!(builds.iter().map(|(_, id)| *id).collect::<Vec<_>>(), Id::ALL);
    for (fault, invariant) in builds {
        let mut others = BTreeMap::new();
        let caught = (0..3_000).find(|&seed| match run(seed, Some(fault), false).violation {
            Some((Broken::Invariant(found), _)) if found == invariant => true,
            Some((other, _)) => {
                *others.entry(format!("{other:?}")).or_insert(0) += 1;
                false
            }
            None => false,
        });
        println!("{invariant} {fault:?}: caught at seed {caught:?}, before that {others:?}");
        assert!(caught.is_some(), "{fault:?} was never reported as {invariant}");
    }
}
