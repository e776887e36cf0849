//! `spinegate detach`

use super::{Exit, Failure, Place, output};
use crate::config;

pub(super) fn run(place: &Place) -> Result<Exit, Failure> {
    let loaded = config::load(&place.config()).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::new(
            Exit::Usage,
            format!(
                "the configuration does not say where the filter is:\n{}",
                lines.join("\n")
            ),
        )
    })?;
    let interfaces = crate::run::detach(&loaded.config.filter)?;
    if interfaces.is_empty() {
        let message = format!(
            "no filter is pinned under {}; `filter.pin_dir` names the place",
            loaded.config.filter.pin_dir.display()
        );
        return Err(Failure::new(Exit::Refused, message));
    }
    output::line(&format!(
        "the filter is off {}: nothing is guarded there now",
        interfaces.join(", ")
    ))
}
