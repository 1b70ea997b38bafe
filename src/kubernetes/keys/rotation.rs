//! Which keys are in use while those in the Secret change.

use super::{CertificateError, Issued};

/// The pair in use, and whom to trust. Those of a new authority are trusted at once and used from
/// the next look on: the other side has first to be told whom to trust.
#[derive(Debug, Default)]
pub struct Rotation {
    used: Option<Issued>,
    trusted: String,
}

impl Rotation {
    /// Takes in what the Secret has; whether [`Self::pair`] or [`Self::authorities`] changed.
    ///
    /// # Errors
    /// It cannot be used: all stays as it was.
    pub fn take(&mut self, issued: &Issued) -> Result<bool, CertificateError> {
        if self.used.as_ref().is_some_and(|used| used == issued) {
            return Ok(false);
        }
        issued.pair()?;
        let is_trusted = self.trusted == issued.authorities;
        let waits = self.used.as_ref().is_some_and(|used| used.authority() != issued.authority());
        self.trusted.clone_from(&issued.authorities);
        if is_trusted || !waits {
            self.used = Some(issued.clone());
        }
        Ok(true)
    }

    /// The pair in use; none before the first.
    pub const fn pair(&self) -> Option<&Issued> {
        self.used.as_ref()
    }

    /// Whom to trust, PEM.
    pub fn authorities(&self) -> &str {
        &self.trusted
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::Purpose;
    use super::*;

    #[test]
    fn a_new_authority_is_trusted_a_look_before_it_is_used() {
        let names = ["a".to_owned()];
        let now = SystemTime::now();
        let days = |days: u64| now + Duration::from_secs(days * 24 * 3600);
        let first = Issued::new(Purpose::Peers, &names, now).unwrap();
        let second = first.renewed(Purpose::Peers, &names, days(61)).unwrap().unwrap();
        let third = second.renewed(Purpose::Peers, &names, days(9 * 365 + 1)).unwrap().unwrap();
        let mut rotation = Rotation::default();
        let mut took = |issued: &Issued| {
            let changed = rotation.take(issued).unwrap();
            let key = rotation.pair().map(|pair| pair.key.clone());
            (changed, key.as_ref() == Some(&issued.key), rotation.authorities().to_owned())
        };
        assert_eq!(took(&first), (true, true, first.authorities.clone()));
        assert_eq!(took(&first), (false, true, first.authorities.clone()));
        assert_eq!(took(&second), (true, true, first.authorities.clone()));
        assert_eq!(took(&third), (true, false, third.authorities.clone()));
        assert_eq!(took(&third), (true, true, third.authorities.clone()));
        let broken = Issued { key: first.key.clone(), ..third.clone() };
        assert!(rotation.take(&broken).is_err());
        assert_eq!(rotation.pair(), Some(&third));
    }
}
