//! A network that loses, delays, reorders and duplicates, from one seed.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A packet as a talker sends it: when, in µs of the talker's clock, and its bytes.
pub(crate) type Sent = (u64, Vec<u8>);

/// What a network does to packets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Network {
    /// Part of the packets lost.
    pub(crate) loss: f64,
    /// Mean length of a burst of losses; 0 when each is by itself.
    pub(crate) burst: f64,
    /// Delay varies evenly between 0 and this, order kept.
    pub(crate) jitter_ms: f64,
    /// Part of the packets that come up to three places late.
    pub(crate) reorder: f64,
    /// Part of the packets that come twice.
    pub(crate) duplicate: f64,
    /// Once a minute nothing comes for so long, then all at once.
    pub(crate) spike_ms: u64,
    /// The talker's clock runs fast by this.
    pub(crate) drift_ppm: f64,
}

/// When each packet arrives, in µs, and in what order.
pub(crate) fn carry(sent: &[Sent], network: &Network, seed: u64) -> (Vec<Sent>, usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut arrivals: BTreeMap<(u64, usize), &[u8]> = BTreeMap::new();
    let (mut losing, mut lost, mut last) = (false, 0, 0);
    for (n, (at, packet)) in sent.iter().enumerate() {
        // Gilbert's two states; without a wish, each packet by itself.
        let burst = if network.burst > 0.0 { network.burst } else { 1.0 / (1.0 - network.loss) };
        losing = if losing {
            random.random::<f64>() < 1.0 - 1.0 / burst
        } else {
            random.random::<f64>() < network.loss / (1.0 - network.loss) / burst
        };
        let delay = 30_000.0 + 1_000.0 * network.jitter_ms * random.random::<f64>();
        let mut arrival = (*at as f64 * (1.0 - network.drift_ppm / 1e6) + delay) as u64;
        let in_minute = arrival % 60_000_000;
        let spike = 10_000_000..10_000_000 + network.spike_ms * 1_000;
        if spike.contains(&in_minute) {
            arrival += spike.end - in_minute;
        }
        if losing {
            lost += 1;
            continue;
        }
        arrival = arrival.max(last);
        last = arrival;
        if random.random::<f64>() < network.reorder {
            arrival += 20_000 * random.random_range(1..=1) + 1_000;
            last = last.saturating_sub(1);
        }
        arrivals.insert((arrival, 2 * n), packet);
        if random.random::<f64>() < network.duplicate {
            arrivals.insert((arrival + random.random_range(0..30_000), 2 * n + 1), packet);
        }
    }
    (arrivals.into_iter().map(|((at, _), packet)| (at, packet.to_vec())).collect(), lost)
}
