//! One worker's part of a revision's stats. Only that worker's thread writes; any thread reads.
//!
//! The time-weighted average needs no lock: with `n` in flight and `s` = Σ leave − Σ enter of all
//! events so far, the area under the concurrency curve up to `t` is `s + n·t`, exactly. `s` is
//! a 128-bit number, so it never wraps.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use parking_lot::Mutex;

use super::histogram::{Histogram, HistogramReading};
use super::{Nanos, Reading};

/// Status codes with a counter of their own; others share a map behind a lock.
const COMMON_CODES: [u16; 28] = [
    101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 409, 412,
    413, 422, 429, 431, 500, 501, 502, 503, 504,
];

/// Ended requests by status code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeCount {
    /// Count per status code that occurred.
    pub by_code: BTreeMap<u16, u64>,
    /// Requests that ended without a response: the client left, or the connection was cut.
    pub without_response: u64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Cell {
    /// Odd while the three fields below change.
    sequence: AtomicU64,
    in_flight: AtomicU64,
    /// Σ leave − Σ enter, low and high 64 bits of a 128-bit number.
    sum_low: AtomicU64,
    sum_high: AtomicU64,
    arrivals: AtomicU64,
    /// Ended requests.
    ended: Ended,
    /// The same around the replica alone; made where somebody asks for it.
    app: OnceLock<Box<Ended>>,
}

/// Requests that have ended, by status, and how long they took.
#[derive(Debug, Default)]
struct Ended {
    codes: [AtomicU64; COMMON_CODES.len()],
    other_codes: Mutex<BTreeMap<u16, u64>>,
    without_response: AtomicU64,
    latency: Histogram,
}

impl Cell {
    pub(super) fn enter(&self, now: Nanos, arrival: bool) {
        self.change(|n, s| (n + 1, s.wrapping_sub(i128::from(now.0))));
        if arrival {
            let arrivals = self.arrivals.load(Ordering::Relaxed);
            self.arrivals.store(arrivals + 1, Ordering::Relaxed);
        }
    }

    pub(super) fn leave(&self, now: Nanos) {
        self.change(|n, s| (n.saturating_sub(1), s.wrapping_add(i128::from(now.0))));
    }

    /// A write of the sequence lock. Single writer: plain stores suffice.
    fn change(&self, f: impl FnOnce(u64, i128) -> (u64, i128)) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let (n, s) = f(self.in_flight.load(Ordering::Relaxed), self.sum());
        self.in_flight.store(n, Ordering::Relaxed);
        // Both halves of the number's bits, on purpose.
        self.sum_low.store(s as u64, Ordering::Relaxed);
        self.sum_high.store((s >> 64) as u64, Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    fn sum(&self) -> i128 {
        let low = self.sum_low.load(Ordering::Relaxed);
        let high = self.sum_high.load(Ordering::Relaxed);
        (i128::from(high as i64) << 64) | i128::from(low)
    }

    pub(super) fn add_to(&self, reading: &mut Reading) {
        let (n, s) = loop {
            let before = self.sequence.load(Ordering::Acquire);
            let n = self.in_flight.load(Ordering::Relaxed);
            let s = self.sum();
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                break (n, s);
            }
            std::hint::spin_loop();
        };
        // An event between the reader's clock read and its read of the cell may be later than
        // `at`; the area is then short by nanoseconds, never negative.
        let area = s.saturating_add(i128::from(n) * i128::from(reading.at.0));
        reading.in_flight += n;
        reading.area += u128::try_from(area).unwrap_or(0);
        reading.arrivals += self.arrivals.load(Ordering::Relaxed);
    }

    pub(super) fn ended(&self, status: Option<u16>, nanos: u64) {
        self.ended.add(status, nanos);
    }

    /// What the replica answered, and how long that took, without waiting for a place.
    pub(super) fn app_ended(&self, status: Option<u16>, nanos: u64) {
        self.app.get_or_init(Box::default).add(status, nanos);
    }

    pub(super) fn add_codes(&self, sum: &mut CodeCount) {
        self.ended.add_codes(sum);
    }

    pub(super) fn latency(&self) -> HistogramReading {
        self.ended.latency.read()
    }

    pub(super) fn add_app(&self, codes: &mut CodeCount, latency: &mut HistogramReading) {
        if let Some(app) = self.app.get() {
            app.add_codes(codes);
            latency.add(&app.latency.read());
        }
    }
}

impl Ended {
    fn add(&self, status: Option<u16>, nanos: u64) {
        self.latency.record_single_writer(nanos);
        let Some(status) = status else {
            let count = self.without_response.load(Ordering::Relaxed);
            self.without_response.store(count + 1, Ordering::Relaxed);
            return;
        };
        match COMMON_CODES.binary_search(&status) {
            Ok(index) => {
                let code = &self.codes[index];
                code.store(code.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            Err(_) => *self.other_codes.lock().entry(status).or_default() += 1,
        }
    }

    fn add_codes(&self, sum: &mut CodeCount) {
        for (code, count) in COMMON_CODES.iter().zip(&self.codes) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                *sum.by_code.entry(*code).or_default() += count;
            }
        }
        for (code, count) in self.other_codes.lock().iter() {
            *sum.by_code.entry(*code).or_default() += count;
        }
        sum.without_response += self.without_response.load(Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(cell: &Cell, at: u64) -> Reading {
        let mut reading = Reading { at: Nanos(at), ..Reading::default() };
        cell.add_to(&mut reading);
        reading
    }

    proptest! {
        /// The sums agree with integrating the concurrency curve step by step.
        #[test]
        fn area_is_the_integral(steps in prop::collection::vec((0_u64..1_000, any::<bool>()), 1..200)) {
            let cell = Cell::default();
            let (mut now, mut n, mut area, mut arrivals) = (0_u64, 0_u64, 0_u128, 0_u64);
            for (dt, enter) in steps {
                area += u128::from(n) * u128::from(dt);
                now += dt;
                if enter || n == 0 {
                    cell.enter(Nanos(now), true);
                    n += 1;
                    arrivals += 1;
                } else {
                    cell.leave(Nanos(now));
                    n -= 1;
                }
                prop_assert_eq!(
                    read(&cell, now),
                    Reading { at: Nanos(now), in_flight: n, area, arrivals }
                );
            }
        }
    }

    #[test]
    fn codes_common_and_rare_are_counted() {
        let cell = Cell::default();
        cell.ended(Some(200), 0);
        cell.ended(Some(299), 0);
        cell.ended(Some(299), 0);
        cell.ended(None, 0);
        let mut sum = CodeCount::default();
        cell.add_codes(&mut sum);
        assert_eq!(sum.by_code, BTreeMap::from([(200, 1), (299, 2)]));
        assert_eq!(sum.without_response, 1);
        assert!(COMMON_CODES.is_sorted(), "binary search needs it");
    }
}
