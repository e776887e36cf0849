//! The host's clock: certificates, CRLs and tokens are judged by it.

use nix::libc;

/// What the kernel says of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// Whether something keeps it right.
    pub(super) synchronised: bool,
    /// How far it may be off, in microseconds.
    pub(super) max_error_us: i64,
}

/// Asks the kernel (adjtimex(2)); none if it does not say.
#[allow(unsafe_code, reason = "no safe wrapper reads the clock's state")]
pub(super) fn read() -> Option<Clock> {
    // SAFETY: `timex` is plain numbers, for all of which zero is a value. With `modes` 0 nothing is changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole `timex` that lives through the call, and the kernel writes no more than that.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    (answer >= 0).then_some(Clock {
        synchronised: answer != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0,
        max_error_us: state.maxerror,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_tells_of_its_clock() {
        let clock = super::read().expect("a kernel that tells");
        assert!(clock.max_error_us >= 0, "{clock:?}");
    }
}
