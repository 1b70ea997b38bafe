//! Things that need each other: circles, and the order in which they can be begun. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// What each thing needs. What is needed and is no key itself counts as there already.
pub type Needs<T> = BTreeMap<T, BTreeSet<T>>;

/// A circle, from its least member on, each once; none if there is none.
pub fn circle<T: Ord + Clone>(needs: &Needs<T>) -> Option<Vec<T>> {
    let mut done: BTreeSet<&T> = BTreeSet::new();
    for start in needs.keys() {
        // What led here, each with what of it is still to be looked at.
        let mut path: Vec<(&T, std::collections::btree_set::Iter<'_, T>)> = Vec::new();
        let mut next = Some(start);
        loop {
            if let Some(thing) = next.take() {
                if let Some(begin) = path.iter().position(|(known, _)| *known == thing) {
                    let members = path[begin..].iter().map(|(member, _)| (*member).clone());
                    return Some(from_least(members.collect()));
                }
                if !done.contains(thing)
                    && let Some(needed) = needs.get(thing)
                {
                    path.push((thing, needed.iter()));
                }
            }
            match path.last_mut() {
                Some((_, rest)) => match rest.next() {
                    Some(needed) => next = Some(needed),
                    None => done.extend(path.pop().map(|(thing, _)| thing)),
                },
                None => break,
            }
        }
    }
    None
}

fn from_least<T: Ord>(mut members: Vec<T>) -> Vec<T> {
    let least = members.iter().enumerate().min_by(|a, b| a.1.cmp(b.1)).map(|(index, _)| index);
    members.rotate_left(least.unwrap_or(0));
    members
}

/// Steps: what is in one needs only what is in those before, and everything is in the first step
/// that it can be in. Members of circles, and what needs them, come together at the end.
pub fn steps<T: Ord + Clone>(needs: &Needs<T>) -> Vec<Vec<T>> {
    let mut left: BTreeMap<&T, usize> = BTreeMap::new();
    let mut needed_by: BTreeMap<&T, Vec<&T>> = BTreeMap::new();
    for (thing, needed) in needs {
        let known: Vec<&T> = needed.iter().filter(|other| needs.contains_key(*other)).collect();
        left.insert(thing, known.len());
        for other in known {
            needed_by.entry(other).or_default().push(thing);
        }
    }
    let mut steps = Vec::new();
    let mut step: Vec<&T> = left.iter().filter(|(_, left)| **left == 0).map(|(t, _)| *t).collect();
    while !step.is_empty() {
        step.sort();
        let mut next = Vec::new();
        for thing in &step {
            left.remove(*thing);
            for other in needed_by.get(*thing).into_iter().flatten() {
                let Some(left) = left.get_mut(*other) else { continue };
                *left -= 1;
                if *left == 0 {
                    next.push(*other);
                }
            }
        }
        steps.push(step.into_iter().cloned().collect());
        step = next;
    }
    if !left.is_empty() {
        steps.push(left.into_keys().cloned().collect());
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `a:b,c b:` is two things, of which the first needs `b` and `c`.
    fn needs(text: &str) -> Needs<String> {
        let of = |entry: &str| {
            let (thing, needed) = entry.split_once(':').unwrap();
            let needed = needed.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
            (thing.to_owned(), needed.collect())
        };
        text.split(' ').filter(|entry| !entry.is_empty()).map(of).collect()
    }

    #[test]
    fn circles_are_found_and_named_from_their_least_member() {
        let cases = [
            ("", ""),
            ("a:", ""),
            ("a:b,c b:c c:", ""),
            ("a:x b:x", ""),
            ("a:a", "a"),
            ("c:a a:b b:c", "a b c"),
            ("a:b b:d,c c:b d:", "b c"),
            ("z:y y:z a:b b:", "y z"),
        ];
        for (text, expected) in cases {
            let found = circle(&needs(text)).unwrap_or_default().join(" ");
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn steps_are_as_early_as_can_be() {
        let cases = [
            ("", ""),
            ("b: a:", "a b"),
            ("a:b,c b:c c:", "c | b | a"),
            ("web:api,cache api:db db: cache: other:missing", "cache db other | api | web"),
            ("a:b b:a c: d:a", "c | a b d"),
        ];
        for (text, expected) in cases {
            let found: Vec<String> = steps(&needs(text)).iter().map(|s| s.join(" ")).collect();
            assert_eq!(found.join(" | "), expected, "{text:?}");
        }
    }

    proptest! {
        /// Each thing once, after all it needs, wherever there is no circle; and a circle is one.
        #[test]
        fn order_and_circles_agree(
            edges in prop::collection::vec((0_u8..8, 0_u8..8), 0..20),
        ) {
            let mut needs: Needs<u8> = (0..8).map(|thing| (thing, BTreeSet::new())).collect();
            for (thing, needed) in edges {
                needs.get_mut(&thing).unwrap().insert(needed);
            }
            let order: Vec<u8> = steps(&needs).concat();
            let mut once = order.clone();
            once.sort_unstable();
            prop_assert_eq!(once, (0..8).collect::<Vec<u8>>());
            let place = |thing: u8| order.iter().position(|known| *known == thing);
            match circle(&needs) {
                None => for (thing, needed) in &needs {
                    for other in needed {
                        prop_assert!(place(*other) < place(*thing), "{other} before {thing}");
                    }
                },
                Some(circle) => {
                    let next = circle.iter().skip(1).chain(circle.first());
                    for (thing, needed) in circle.iter().zip(next) {
                        prop_assert!(needs[thing].contains(needed));
                    }
                }
            }
        }
    }
}
