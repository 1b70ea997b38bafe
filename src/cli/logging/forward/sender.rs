//! The thread that brings records to one collector: in order, batch by batch, each tried until it
//! went through.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;
use super::{Link, Record, wire};
use crate::config::settings::Forwarder;

/// Most records of a message.
const BATCH_RECORDS: usize = 1024;
/// Bytes of records with which a message is full.
const BATCH_BYTES: usize = 256 << 10;
/// Pause after the first attempt that failed; doubled after each further one.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often dropped records are told of.
const TELL_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Sender {
    forwarder: Forwarder,
    received: Receiver<Record>,
    link: Arc<Link>,
    connection: Option<Connection>,
    /// The last attempt failed, which was said.
    is_away: bool,
    told: Told,
}

impl Sender {
    pub(super) fn new(forwarder: Forwarder, received: Receiver<Record>, link: Arc<Link>) -> Self {
        let told = Told { dropped: 0, next: Instant::now() };
        Self { forwarder, received, link, connection: None, is_away: false, told }
    }

    /// Runs until the queue is gone and empty.
    pub(super) fn run(mut self) {
        let Forwarder { tag, .. } = &self.forwarder;
        tracing::info!(to = %self.forwarder, tag, "forwarding the log");
        let mut batch = Vec::new();
        loop {
            match self.received.recv_timeout(TELL_EVERY) {
                Ok(first) => batch.push(first),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !batch.is_empty() {
                let bytes = self.fill(&mut batch);
                let is_sent = self.deliver(&batch);
                self.link.finish(batch.len(), bytes, is_sent);
                batch.clear();
            }
            self.told.look(&self.link, &self.forwarder);
        }
        tracing::info!(to = %self.forwarder, "no longer forwarding the log");
    }

    /// Adds what is queued, as far as it fits into one message; the cost of all.
    fn fill(&self, batch: &mut Vec<Record>) -> usize {
        let mut bytes = batch.iter().map(Record::cost).sum();
        while batch.len() < BATCH_RECORDS
            && bytes < BATCH_BYTES
            && let Ok(record) = self.received.try_recv()
        {
            bytes += record.cost();
            batch.push(record);
        }
        bytes
    }

    /// Whether the collector has the batch; false only if it is no longer wanted.
    fn deliver(&mut self, batch: &[Record]) -> bool {
        let chunk = self.forwarder.confirmed.then(|| format!("{:032x}", fastrand::u128(..)));
        let chunk = chunk.as_deref();
        let message = match wire::message(&self.forwarder.tag, batch, chunk) {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(to = %self.forwarder, %error, "records that cannot be written");
                return false;
            }
        };
        let mut pause = PAUSE;
        while !self.link.is_over() {
            match self.send(&message, chunk) {
                Ok(()) => {
                    if std::mem::take(&mut self.is_away) {
                        tracing::info!(to = %self.forwarder, "forwarding the log again");
                    }
                    return true;
                }
                Err(error) => {
                    self.connection = None;
                    if !std::mem::replace(&mut self.is_away, true) {
                        tracing::warn!(to = %self.forwarder, %error,
                            "the log cannot be forwarded; records wait, within bounds");
                    }
                }
            }
            self.told.look(&self.link, &self.forwarder);
            self.link.pause(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
        false
    }

    fn send(&mut self, message: &[u8], chunk: Option<&str>) -> io::Result<()> {
        // What is written to a connection that was closed meanwhile would be lost without a word.
        let open = self.connection.take().and_then(Connection::if_open);
        let connection = match open {
            Some(open) => self.connection.insert(open),
            None => self.connection.insert(Connection::open(&self.forwarder)?),
        };
        let (link, forwarder, told) = (&self.link, &self.forwarder, &mut self.told);
        let mut is_worth_it = || {
            told.look(link, forwarder);
            !link.is_over()
        };
        connection.write(message, &mut is_worth_it)?;
        match chunk {
            Some(chunk) => connection.wait_confirmed(chunk, &mut is_worth_it),
            None => Ok(()),
        }
    }
}

/// Dropped records that the log itself has told of.
struct Told {
    dropped: u64,
    next: Instant,
}

impl Told {
    /// Says how many more were dropped, once in a while.
    fn look(&mut self, link: &Link, forwarder: &Forwarder) {
        let dropped = link.dropped.load(Ordering::Relaxed);
        let now = Instant::now();
        if dropped == self.dropped || now < self.next {
            return;
        }
        tracing::warn!(to = %forwarder, dropped = dropped - self.dropped,
            "log records dropped: the collector is away or slow");
        *self = Self { dropped, next: now + TELL_EVERY };
    }
}
