//! The figures of docs/cache.md, written by `cargo xtask cache-figures`: who goes when the cache is full, compared with
//! others over the same reads, and what an index of a large store takes.

mod index;
mod policies;
mod workloads;

use std::collections::HashSet;
use std::path::Path;

use self::policies::{Clock, Lru, Ours, Policy, QuickCache, Sieve};
use self::workloads::Workload;

/// Sizes of the cache, in percent of the extents that are read at all.
const SIZES: [u32; 4] = [5, 10, 25, 50];

/// How many extents were fetched, in percent of all uses. Sixteen reads of one extent in a row are one use.
fn fetched(workload: &Workload, slots: u32, policy: &mut dyn Policy) -> f64 {
    let mut misses = 0_u32;
    for read in &workload.reads {
        misses += u32::from(!policy.read(*read));
    }
    assert!(
        policy.held() <= slots as usize,
        "{} over its size",
        workload.name
    );
    f64::from(misses) * 100.0 / f64::from(workload.uses())
}

fn row(workload: &Workload, percent: u32) -> String {
    let distinct = workload.reads.iter().collect::<HashSet<_>>().len();
    let slots = u32::try_from(distinct).unwrap() * percent / 100;
    let mut policies: [Box<dyn Policy>; 5] = [
        Box::new(Ours::new(slots)),
        Box::new(Lru::new(slots)),
        Box::new(Clock::new(slots)),
        Box::new(Sieve::new(slots)),
        Box::new(QuickCache::new(slots)),
    ];
    let least = distinct as f64 * 100.0 / f64::from(workload.uses());
    let cells: Vec<String> = policies
        .iter_mut()
        .map(|policy| format!("{:.1}", fetched(workload, slots, policy.as_mut())))
        .collect();
    format!(
        "| {} | {percent} % | {} | {least:.1} |",
        workload.name,
        cells.join(" | ")
    )
}

#[test]
#[ignore = "started by cargo xtask cache-figures"]
fn figures() {
    if let Some(folder) = std::env::var_os("READS_INTO") {
        workloads::write(Path::new(&folder));
        return;
    }
    println!("\nBEGIN policies");
    println!("| reads | cache | ours | LRU | CLOCK | SIEVE | quick_cache | least |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for workload in workloads::all() {
        for percent in SIZES {
            println!("{}", row(&workload, percent));
        }
    }
    println!("END policies");
    println!("BEGIN index");
    println!("| store | slots | opened in | memory per slot |");
    println!("|--:|--:|--:|--:|");
    for gibibytes in [10, 100, 1024] {
        println!("{}", index::row(gibibytes));
    }
    println!("END index");
}

/// What the choice rests on: a scan, or a storm of images, costs the others what they held.
#[test]
fn ours_keeps_what_is_used_where_lru_loses_it() {
    let workload = workloads::boots_and_a_scan();
    let distinct = workload.reads.iter().collect::<HashSet<_>>().len();
    let slots = u32::try_from(distinct / 10).unwrap();
    let ours = fetched(&workload, slots, &mut Ours::new(slots));
    let lru = fetched(&workload, slots, &mut Lru::new(slots));
    assert!(ours < lru * 0.95, "{ours} against {lru}");
}
