//! `docs/control-api.md` has every resource, failure and limit of the API, and can't differ from the code.

use std::{fmt::Write as _, fs, path::PathBuf};

use super::{FailureKind, LIMITS, ROUTES, Route};
use crate::written;

#[test]
fn the_page_of_the_api_says_what_the_code_says() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/control-api.md");
    let mut page = fs::read_to_string(&file).unwrap();
    for (name, text) in [
        ("routes", routes()),
        ("failures", failures()),
        ("limits", limits()),
    ] {
        let marks = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        page = written::with(&page, (&marks.0, &marks.1), &text);
    }
    written::same(&file, &page);
}

fn routes() -> String {
    let mut text = "| method and path | role | what it does | answer |\n|---|---|---|---|\n".to_owned();
    for route in ROUTES {
        let answer: Vec<_> = route.answer.iter().map(|key| format!("`{key}`")).collect();
        let (way, role) = (way(route), route.role.as_str());
        writeln!(
            text,
            "| {way} | `{role}` | {} | {} |",
            route.does,
            answer.join(", ")
        )
        .unwrap();
    }
    text += "\nParameters; those in bold must be given. A dot leads into an object of the body.\n\n";
    text += "| of | parameter | is | says |\n|---|---|---|---|\n";
    for route in ROUTES {
        for (index, parameter) in route.parameters.iter().enumerate() {
            let of = if index == 0 { way(route) } else { String::new() };
            let name = match parameter.required {
                true => format!("**`{}`**", parameter.name),
                false => format!("`{}`", parameter.name),
            };
            writeln!(
                text,
                "| {of} | {name} | {} | {} |",
                parameter.kind, parameter.meaning
            )
            .unwrap();
        }
    }
    text
}

fn way(route: &Route) -> String {
    format!("`{} {}`", route.method, route.path)
}

fn failures() -> String {
    let mut text = "| code | status | exit code of the command | when |\n|---|---:|---:|---|\n".to_owned();
    for kind in FailureKind::ALL {
        let code = serde_json::to_value(kind).unwrap();
        let when = match kind {
            FailureKind::Usage => "the request, or the configuration to be loaded, is wrong",
            FailureKind::Forbidden => "the caller may not",
            FailureKind::NotFound => "what is named is not there, or there is no such path",
            FailureKind::Refused => "the agent understood, and will not",
            FailureKind::Internal => "the agent or the kernel failed, or something that it asked",
            FailureKind::Busy => "too many call at once: try again",
        };
        let (code, status) = (code.as_str().unwrap(), kind.status().as_u16());
        writeln!(text, "| `{code}` | {status} | {} | {when} |", kind.exit_code()).unwrap();
    }
    text
}

fn limits() -> String {
    let mut text = "| limit | value | beyond |\n|---|---:|---|\n".to_owned();
    for limit in LIMITS {
        writeln!(text, "| {} | {} | {} |", limit.what, limit.value, limit.beyond).unwrap();
    }
    text
}
