//! LDIF (RFC 2849), as `ldapsearch -LLL` prints it.

use base64::Engine as _;

use super::Entry;

/// Reads every entry of a text.
///
/// # Errors
/// A line that is none of LDIF, by its number.
pub(in crate::directory) fn read(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut entry = Entry::default();
    for (number, line) in unfolded(text) {
        if line.is_empty() {
            finish(&mut entry, &mut entries);
            continue;
        }
        if line.starts_with('#') || line.starts_with("version:") {
            continue;
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| format!("line {number} is no attribute with its value"))?;
        let value = match value.strip_prefix(':') {
            Some(encoded) => decoded(encoded.trim()).ok_or_else(|| format!("line {number} is no base64"))?,
            None if value.starts_with('<') => return Err(format!("line {number} names a value elsewhere")),
            None => value.trim_start().to_owned(),
        };
        // Options, as in `;binary`, say nothing of what is wanted here.
        let name = name.split(';').next().unwrap_or_default().to_ascii_lowercase();
        if name == "dn" {
            entry.dn = value;
            continue;
        }
        match entry.attributes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => entry.attributes.push((name, vec![value])),
        }
    }
    finish(&mut entry, &mut entries);
    Ok(entries)
}

fn finish(entry: &mut Entry, entries: &mut Vec<Entry>) {
    if !entry.dn.is_empty() || !entry.attributes.is_empty() {
        entries.push(std::mem::take(entry));
    }
}

/// The lines with their numbers; one that begins with a blank goes on the one before.
fn unfolded(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        match (line.strip_prefix(' '), lines.last_mut()) {
            (Some(rest), Some((_, last))) => last.push_str(rest),
            _ => lines.push((number, line.to_owned())),
        }
    }
    lines
}

fn decoded(encoded: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_encoded_and_repeated_lines_are_read() {
        let text = "version: 1\n# a comment\ndn: uniqueIdentifier=1,ou=services,\n o=nhs\nnhsIDCode: RR8\nnhsAsSvcIA: urn:a\nNHSASSVCIA:: dXJuOmI=\n\ndn: cn=2\nnhsIDCode: RGD\n";
        let entries = read(text).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].dn, "uniqueIdentifier=1,ou=services,o=nhs");
        assert_eq!(entries[0].values("nhsassvcia"), ["urn:a", "urn:b"]);
        assert_eq!(entries[1].values("nhsidcode"), ["RGD"]);
        for bad in [
            "dn: a\nnothing",
            "dn:: %%",
            "dn: a\njpegPhoto:< file:///etc/passwd",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
