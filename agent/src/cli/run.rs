//! `spinegate run`

use std::io::Write as _;

use super::{Exit, Failure, Place, check};
use crate::config::Diagnostic;

pub(super) fn run(place: &Place) -> Result<Exit, Failure> {
    let loaded = match check::load(&place.config()) {
        // What the rooms warn of is in the agent's log and in its status.
        Ok((loaded, _)) => loaded,
        Err(problems) => {
            report("", &problems);
            let message =
                "the configuration is not sound, so nothing was started; mend the above and run again";
            return Err(Failure::new(Exit::Usage, message));
        }
    };
    report("warning: ", &loaded.warnings);
    crate::run::run(loaded)?;
    Ok(Exit::Done)
}

fn report(prefix: &str, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        let _ = writeln!(std::io::stderr(), "{prefix}{diagnostic}");
    }
}
