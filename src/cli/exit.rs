//! Exit codes (`sysexits.h` where it has one).

/// Something failed.
pub const FAILURE: u8 = 1;
/// The command line is wrong (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// The configuration has errors (`EX_CONFIG`).
pub const CONFIG: u8 = 78;
