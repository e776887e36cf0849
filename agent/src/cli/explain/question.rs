//! What is asked, out of the arguments and the files that they name.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Arguments, Exit, Failure};
use crate::control::{DescribedRequest, MAX_BODY, Question};

/// More can't be sent to the agent.
const MAX_FILE: u64 = MAX_BODY / 2;

pub(super) fn of(arguments: &Arguments) -> Result<Question, Failure> {
    let file = |path: &Option<std::path::PathBuf>| path.as_deref().map(encoded).transpose();
    let headers = arguments.headers.iter().map(|header| {
        header
            .split_once(':')
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .ok_or_else(|| {
                Failure::new(
                    Exit::Usage,
                    format!("{header:?} is no header; write it NAME:VALUE"),
                )
            })
    });
    let described = DescribedRequest {
        asid: arguments.asid.clone(),
        interaction: arguments.interaction.clone(),
        method: arguments.method.clone(),
        path: arguments.path.clone(),
        headers: headers.collect::<Result<_, _>>()?,
        token: arguments.jwt.as_deref().map(token).transpose()?,
        body: file(&arguments.body)?,
    };
    Ok(Question {
        described: arguments.request.is_none().then_some(described),
        raw: file(&arguments.request)?,
        certificate: file(&arguments.cert)?,
        fqdn: arguments.fqdn.clone(),
        source: arguments.source,
        custodian: arguments.custodian.clone(),
        stored: file(&arguments.stored)?,
        at: arguments.at.clone(),
    })
}

fn encoded(path: &Path) -> Result<String, Failure> {
    read(path).map(|bytes| STANDARD.encode(bytes))
}

/// A token, with or without the scheme that stands before it in the header.
fn token(path: &Path) -> Result<String, Failure> {
    let text = String::from_utf8_lossy(&read(path)?).into_owned();
    let text = text.trim();
    let token = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => text,
    };
    Ok(token.to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let taken = if path == Path::new("-") {
        io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
    };
    let fail = |what: String| Failure::new(Exit::Usage, format!("{}: {what}", path.display()));
    taken.map_err(|error| fail(format!("{error}; correct the path, or make the file readable")))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(fail(format!(
            "it has more than {MAX_FILE} bytes; give a smaller one"
        )));
    }
    Ok(bytes)
}
