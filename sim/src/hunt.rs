//! Small storms that look for a lock.

use std::num::NonZeroU32;
use std::sync::Arc;

use vmthunder_swarm::SwarmOptions;

use crate::dice::Dice;
use crate::{Boot, Scenario};

/// The small storm of a seed: queues of one place, incomplete views, and now and then deaths, slow nodes, liars, and
/// nodes that come and go.
pub fn hunted(seed: u64) -> Scenario {
    let mut dice = Dice(seed ^ 0x6875_6e74);
    let mut pick = |from: u32, to: u32| {
        from + u32::try_from(dice.throw() % u64::from(to - from + 1)).unwrap_or(0)
    };
    let nodes = pick(2, 16);
    let one_in = |some: u32, pick: &mut dyn FnMut(u32, u32) -> u32| u32::from(pick(1, some) == 1);
    Scenario {
        seed,
        nodes,
        boot: Arc::new(Boot::of_size(
            65_536 * u64::from(pick(8, 48)),
            1 << 30,
            seed,
        )),
        prefetch: [0, 16, 64][pick(0, 2) as usize],
        swarm: SwarmOptions {
            peer_queue: NonZeroU32::MIN,
            origin_queue: NonZeroU32::MIN,
            ..SwarmOptions::default()
        },
        serve_queue: pick(1, 2) as usize,
        view_percent: u64::from(pick(50, 100)),
        deaths: one_in(4, &mut pick),
        slow: one_in(4, &mut pick),
        liars: one_in(4, &mut pick),
        churn: one_in(4, &mut pick) * pick(1, 3),
        ..Scenario::default()
    }
}
