//! Questions to all, and who has yet to answer.

use std::collections::{BTreeSet, HashMap};

use tokio::sync::oneshot;

use crate::kubernetes::peers::PeerId;

/// Questions that are open.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    last: u64,
    open: HashMap<u64, Round>,
}

#[derive(Debug)]
struct Round {
    waiting: BTreeSet<PeerId>,
    said: oneshot::Sender<bool>,
}

impl Rounds {
    /// A question to these; none where nobody is there to be asked. What is received is whether
    /// all said yes.
    pub(super) fn begin(
        &mut self,
        waiting: BTreeSet<PeerId>,
    ) -> Option<(u64, oneshot::Receiver<bool>)> {
        if waiting.is_empty() {
            return None;
        }
        let (said, answer) = oneshot::channel();
        self.last += 1;
        self.open.insert(self.last, Round { waiting, said });
        Some((self.last, answer))
    }

    /// Nobody waits for it any more.
    pub(super) fn end(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// One has answered.
    pub(super) fn answered(&mut self, who: &PeerId, number: u64, yes: bool) {
        let Some(round) = self.open.get_mut(&number) else { return };
        if yes {
            self.is_done_by(number, who);
        } else if round.waiting.contains(who) {
            self.say(number, false);
        }
    }

    /// One is lost: what it leads to does not matter any more.
    pub(super) fn lost(&mut self, who: &PeerId) {
        let numbers: Vec<u64> = self.open.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.is_done_by(number, who));
    }

    fn is_done_by(&mut self, number: u64, who: &PeerId) {
        let Some(round) = self.open.get_mut(&number) else { return };
        round.waiting.remove(who);
        if round.waiting.is_empty() {
            self.say(number, true);
        }
    }

    fn say(&mut self, number: u64, yes: bool) {
        if let Some(round) = self.open.remove(&number) {
            // Whoever asked may have given up.
            let _ = round.said.send(yes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerId {
        PeerId(name.into())
    }

    /// What is heard of a question to `a` and `b` after each of these words.
    fn heard(words: &[&str]) -> Vec<Option<bool>> {
        let mut rounds = Rounds::default();
        let (number, mut answer) = rounds.begin(BTreeSet::from([peer("a"), peer("b")])).unwrap();
        let heard = words.iter().map(|word| {
            match word.split_once(' ').unwrap() {
                (who, "yes") => rounds.answered(&peer(who), number, true),
                (who, "no") => rounds.answered(&peer(who), number, false),
                (who, "lost") => rounds.lost(&peer(who)),
                (who, "late") => rounds.answered(&peer(who), number + 1, true),
                other => panic!("{other:?}"),
            }
            answer.try_recv().ok()
        });
        let heard = heard.collect();
        assert!(rounds.open.len() <= 1);
        heard
    }

    #[test]
    fn all_have_to_say_yes() {
        assert_eq!(heard(&["a yes", "b yes"]), [None, Some(true)]);
        assert_eq!(heard(&["a yes", "a yes", "a late", "b yes"]), [None, None, None, Some(true)]);
        assert_eq!(heard(&["a no", "b yes"]), [Some(false), None]);
        assert_eq!(heard(&["c no", "c yes", "c lost"]), [None, None, None], "it was not asked");
        assert_eq!(heard(&["a lost", "b yes"]), [None, Some(true)]);
        assert_eq!(heard(&["a yes", "b lost"]), [None, Some(true)]);
    }

    #[test]
    fn nobody_is_asked_where_nobody_is() {
        let mut rounds = Rounds::default();
        assert!(rounds.begin(BTreeSet::new()).is_none());
        let (number, mut answer) = rounds.begin(BTreeSet::from([peer("a")])).unwrap();
        rounds.end(number);
        rounds.answered(&peer("a"), number, true);
        assert!(answer.try_recv().is_err() && rounds.open.is_empty());
    }
}
