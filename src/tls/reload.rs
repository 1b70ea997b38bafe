//! Taking up changed files. A look four times a second at what the paths lead to finds edits,
//! renames and swapped symbolic links alike, on every kind of file system; what was read once is
//! read again only when it changed. Connections that are there keep what they began with.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::certificate::{Pair, PairError, PairFiles};
use super::choice::Choices;
use super::server::{TlsServer, announce};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Files count once they were quiet for this long.
const QUIET: Duration = Duration::from_millis(200);
/// A pair is written in two files: until then a bad one may only be half of a new one.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a certificate that expires soon is spoken of.
const REMIND_EVERY: Duration = Duration::from_secs(24 * 3600);
/// A bad pair may become good by time alone: its validity begins.
const AGAIN: Duration = Duration::from_secs(60);

/// What one file was at a look; none where there was none.
type FileSeen = Option<(u64, u64, u64, i64, i64, i64, i64)>;

/// What both files of a pair were at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen(FileSeen, FileSeen);

impl Seen {
    /// Looks at the files, through symbolic links.
    pub(super) fn look(files: &PairFiles) -> Self {
        let one = |path: &Path| {
            let m = std::fs::metadata(path).ok()?;
            let changed = (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
            Some((m.dev(), m.ino(), m.size(), changed.0, changed.1, changed.2, changed.3))
        };
        Self(one(&files.cert), one(&files.key))
    }
}

/// What to do after a look.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    Nothing,
    /// Read the pair; `complain` if it is bad.
    Read {
        complain: bool,
    },
}

/// One pair as it is watched.
#[derive(Debug)]
pub(super) struct Watched {
    /// As of the pair in use.
    used: Seen,
    seen: Seen,
    /// When it became what it is.
    since: Instant,
    /// When it was read and found bad.
    tried: Option<Instant>,
    complained: bool,
}

impl Watched {
    /// The pair in use is of the files as `seen`.
    pub(super) fn new(seen: Seen, now: Instant) -> Self {
        Self { used: seen, seen, since: now, tried: None, complained: false }
    }

    fn look(&mut self, seen: Seen, now: Instant) -> Then {
        if seen != self.seen {
            *self = Self { used: self.used, ..Self::new(seen, now) };
        }
        if seen == self.used && self.tried.is_none() {
            return Then::Nothing;
        }
        let quiet = now - self.since;
        let complain = quiet >= PATIENCE && !self.complained;
        let due = match self.tried {
            None => quiet >= QUIET,
            Some(tried) => complain || now - tried >= AGAIN,
        };
        if due { Then::Read { complain } } else { Then::Nothing }
    }

    fn taken_up(&mut self) {
        self.used = self.seen;
        self.tried = None;
        self.complained = false;
    }

    fn was_bad(&mut self, complained: bool, now: Instant) {
        self.tried = Some(now);
        self.complained |= complained;
    }
}

/// What a look at one pair came to.
enum Found {
    Same(Seen),
    Read(Seen, Result<Pair, PairError>),
}

impl TlsServer {
    /// Takes up changed files for as long as it is polled.
    pub async fn keep_current(self: Arc<Self>) {
        let mut watched: Vec<Watched> =
            self.opened.iter().map(|seen| Watched::new(*seen, Instant::now())).collect();
        let mut reminded = Instant::now();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if reminded.elapsed() >= REMIND_EVERY {
                reminded = Instant::now();
                self.remind(SystemTime::now());
            }
            for (index, watched) in watched.iter_mut().enumerate() {
                self.look(index, watched).await;
            }
        }
    }

    fn remind(&self, now: SystemTime) {
        for (files, pair) in self.files.iter().zip(&self.choices.load_full().pairs) {
            if pair.expires_soon(now) {
                announce(files, pair, now);
            }
        }
    }

    async fn look(&self, index: usize, watched: &mut Watched) {
        let files = &self.files[index];
        // Away from the event loop: a network's file system may take its time.
        let looked = blocking(files.clone(), |files| Found::Same(Seen::look(&files))).await;
        let Some(Found::Same(seen)) = looked else { return };
        let Then::Read { complain } = watched.look(seen, Instant::now()) else { return };
        let read = blocking(files.clone(), |files| {
            let seen = Seen::look(&files);
            Found::Read(seen, Pair::load(&files, SystemTime::now()))
        });
        match read.await {
            Some(Found::Read(read, Ok(pair))) if read == seen => {
                announce(files, &pair, SystemTime::now());
                self.replace(index, pair);
                self.took_up(index, true);
                watched.taken_up();
            }
            Some(Found::Read(_, Err(error))) => {
                if complain {
                    tracing::error!("{error}. The pair before stays in use");
                    self.took_up(index, false);
                }
                watched.was_bad(complain, Instant::now());
            }
            // Changed meanwhile: the next look sees it.
            _ => {}
        }
    }

    fn replace(&self, index: usize, pair: Pair) {
        let mut pairs = self.choices.load_full().pairs.clone();
        pairs[index] = Arc::new(pair);
        self.choices.store(Arc::new(Choices::new(pairs)));
    }

    fn took_up(&self, index: usize, good: bool) {
        self.reloads[usize::from(good)].fetch_add(1, Ordering::Relaxed);
        self.outdated[index].store(!good, Ordering::Relaxed);
    }
}

async fn blocking(
    files: PairFiles,
    look: impl FnOnce(PairFiles) -> Found + Send + 'static,
) -> Option<Found> {
    tokio::task::spawn_blocking(move || look(files)).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(inode: u64) -> Seen {
        Seen(Some((1, inode, 0, 0, 0, 0, 0)), None)
    }

    #[test]
    fn a_change_is_read_once_it_is_quiet() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut watched = Watched::new(seen(1), start);
        let read = |complain| Then::Read { complain };
        assert_eq!(watched.look(seen(1), at(10_000)), Then::Nothing, "nothing changed");
        assert_eq!(watched.look(seen(2), at(10_250)), Then::Nothing, "just now");
        assert_eq!(watched.look(seen(3), at(10_500)), Then::Nothing, "and again");
        assert_eq!(watched.look(seen(3), at(10_750)), read(false));
        watched.taken_up();
        assert_eq!(watched.look(seen(3), at(11_000)), Then::Nothing);
    }

    #[test]
    fn a_bad_pair_is_complained_of_once_and_tried_again() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut watched = Watched::new(seen(1), start);
        let read = |complain| Then::Read { complain };
        watched.look(seen(2), at(0));
        assert_eq!(watched.look(seen(2), at(250)), read(false), "half of a new pair, maybe");
        watched.was_bad(false, at(250));
        assert_eq!(watched.look(seen(2), at(500)), Then::Nothing);
        assert_eq!(watched.look(seen(2), at(2_000)), read(true));
        watched.was_bad(true, at(2_000));
        assert_eq!(watched.look(seen(2), at(30_000)), Then::Nothing);
        assert_eq!(watched.look(seen(2), at(62_000)), read(false), "without another complaint");
        watched.was_bad(false, at(62_000));
        assert_eq!(watched.look(seen(1), at(62_250)), Then::Nothing, "as it was, and in use");
        assert_eq!(watched.look(seen(4), at(62_500)), Then::Nothing);
        assert_eq!(watched.look(seen(4), at(62_750)), read(false));
        watched.was_bad(false, at(62_750));
        assert_eq!(watched.look(seen(4), at(64_600)), read(true), "another one: told again");
    }
}
