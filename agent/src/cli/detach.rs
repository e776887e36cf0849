//! `spinegate detach`

use super::{Exit, Failure, Place, failure::lines, output};
use crate::{
    config::{self, Loaded},
    control::{ClientError, Request, Response},
    filter,
};

/// A running agent takes it off itself, so that it does not put it back a second later.
pub(super) fn run(place: &Place) -> Result<Exit, Failure> {
    match place.call(Request::Detach)? {
        Ok(Response::Done(done)) => {
            output::line(&done)?;
            // The file may be broken while the agent runs well: then nothing is said of others.
            if let Ok(loaded) = config::load(&place.config()) {
                name_others(&loaded)?;
            }
            Ok(Exit::Done)
        }
        Ok(Response::Error(failure)) => Err(failure.into()),
        Ok(_) => Err(Failure::other_answer()),
        Err(denied @ ClientError::Denied { .. }) => Err(denied.into()),
        Err(ClientError::NotRunning) => without_agent(place),
        Err(error) => {
            let _ = output::line(&format!(
                "{error}\nthe running agent does not take the filter off; unless it is stopped, it may put it back"
            ));
            without_agent(place)
        }
    }
}

fn without_agent(place: &Place) -> Result<Exit, Failure> {
    let loaded = config::load(&place.config()).map_err(|problems| {
        let problems = lines(&problems);
        let message = format!("the configuration does not say where the filter is:\n{problems}");
        Failure::new(Exit::Usage, message)
    })?;
    let interfaces = crate::run::detach(&loaded.config.filter)?;
    name_others(&loaded)?;
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

/// Who looks for what drops packets must know that it is not this filter.
fn name_others(loaded: &Loaded) -> Result<(), Failure> {
    for (interface, program, name) in filter::foreign(&loaded.config.filter) {
        output::line(&format!(
            "the XDP slot of {interface} is held by {}, which is not Spinegate's",
            filter::titled(program, &name)
        ))?;
    }
    Ok(())
}
