//! The rules that made a count differ from what the load alone asks for.

use std::fmt;

/// One rule. The token is stable: it appears in the admin API and in `why`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clamp {
    /// Grew no faster than `max-scale-up-rate`.
    MaxScaleUpRate,
    /// Shrank no faster than `max-scale-down-rate`.
    MaxScaleDownRate,
    /// Raised to `activation-scale`.
    ActivationScale,
    /// In panic the count never falls.
    PanicFloor,
    /// `scale-down-delay` keeps an earlier, larger count.
    ScaleDownDelay,
    /// Raised to `min-scale`.
    MinScale,
    /// Cut to `max-scale`.
    MaxScale,
    /// Raised to `initial-scale`, until that many were ready once.
    InitialScale,
    /// `enable-scale-to-zero` is off: the last replica stays.
    ScaleToZeroDisabled,
    /// Still activating: nothing is taken away before `progress-deadline` and 30 s more.
    ProgressDeadline,
    /// Active for less than the stable window: the last replica stays.
    StableWindow,
    /// `scale-to-zero-grace-period` has not passed; also the one step between becoming inactive
    /// and going to zero.
    ScaleToZeroGrace,
    /// `scale-to-zero-pod-retention-period` has not passed.
    ScaleToZeroRetention,
    /// An extra decision between two ticks never lowers.
    EagerNeverLowers,
    /// The process' bound `--max-replicas`.
    MaxReplicas,
}

impl Clamp {
    /// Every rule, in the order in which they are applied.
    pub const ALL: [Self; 15] = [
        Self::MaxScaleUpRate,
        Self::MaxScaleDownRate,
        Self::ActivationScale,
        Self::PanicFloor,
        Self::ScaleDownDelay,
        Self::MinScale,
        Self::MaxScale,
        Self::InitialScale,
        Self::ScaleToZeroDisabled,
        Self::ProgressDeadline,
        Self::StableWindow,
        Self::ScaleToZeroGrace,
        Self::ScaleToZeroRetention,
        Self::EagerNeverLowers,
        Self::MaxReplicas,
    ];

    /// The token.
    pub const fn token(self) -> &'static str {
        match self {
            Self::MaxScaleUpRate => "max-scale-up-rate",
            Self::MaxScaleDownRate => "max-scale-down-rate",
            Self::ActivationScale => "activation-scale",
            Self::PanicFloor => "panic-floor",
            Self::ScaleDownDelay => "scale-down-delay",
            Self::MinScale => "min-scale",
            Self::MaxScale => "max-scale",
            Self::InitialScale => "initial-scale",
            Self::ScaleToZeroDisabled => "scale-to-zero-disabled",
            Self::ProgressDeadline => "progress-deadline",
            Self::StableWindow => "stable-window",
            Self::ScaleToZeroGrace => "scale-to-zero-grace",
            Self::ScaleToZeroRetention => "scale-to-zero-retention",
            Self::EagerNeverLowers => "eager-never-lowers",
            Self::MaxReplicas => "max-replicas",
        }
    }
}

impl fmt::Display for Clamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// A set of rules.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Clamps(u16);

impl Clamps {
    /// Adds a rule.
    pub fn add(&mut self, clamp: Clamp) {
        self.0 |= 1 << clamp as u16;
    }

    /// Adds a rule if `applies`.
    pub(super) fn add_if(&mut self, applies: bool, clamp: Clamp) {
        if applies {
            self.add(clamp);
        }
    }

    /// Adds all rules of another set.
    pub(super) fn add_all(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether a rule is in it.
    pub fn contains(self, clamp: Clamp) -> bool {
        self.0 & (1 << clamp as u16) != 0
    }

    /// Its rules, in the order of [`Clamp::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Clamp> {
        Clamp::ALL.into_iter().filter(move |clamp| self.contains(*clamp))
    }
}

impl fmt::Debug for Clamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Clamp::token)).finish()
    }
}
