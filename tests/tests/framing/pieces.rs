//! What the suite fills into the templates of the cases.

use spinegate_tests::{
    client::{Message, NHS_NUMBER, pointer},
    lab::{CONSUMER, PROVIDER},
    pki::EDGE_FQDN,
};

/// The pieces of a case's template.
pub(crate) struct Pieces {
    fields: String,
    create: String,
    pub(crate) body: String,
}

impl Pieces {
    pub(crate) fn new() -> Self {
        let lines = |message: &Message| -> String {
            let lines = message
                .headers()
                .iter()
                .map(|(name, value)| format!("{name}: {value}\r\n"));
            lines.collect()
        };
        let body = pointer(PROVIDER.ods, NHS_NUMBER);
        let create = Message::create(&body).from(&PROVIDER);
        Self {
            fields: lines(&Message::read("case").from(&CONSUMER)),
            create: format!(
                "POST /STU3/DocumentReference HTTP/1.1\r\nHost: {EDGE_FQDN}\r\n{}",
                lines(&create)
            ),
            body: body.to_string(),
        }
    }

    pub(crate) fn fill(&self, template: &str) -> String {
        let line = "GET /STU3/DocumentReference/case HTTP/1.1\r\n";
        let host = format!("Host: {EDGE_FQDN}\r\n");
        let mut filled = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            filled += before;
            let (name, behind) = after.split_once('}').unwrap_or((after, ""));
            let piece = match name.split_once(':') {
                Some(("a", count)) => "a".repeat(count.parse().unwrap_or(0)),
                Some(("M", count)) => "X-M: 1\r\n".repeat(count.parse().unwrap_or(0)),
                _ => match name {
                    "L" => line.to_owned(),
                    "H" => host.clone(),
                    "F" => self.fields.clone(),
                    "G" => format!("{line}{host}{}", self.fields),
                    "P" => self.create.clone(),
                    "B" => self.body.clone(),
                    "N" => self.body.len().to_string(),
                    "X" => format!("{:x}", self.body.len()),
                    "E" => EDGE_FQDN.to_owned(),
                    other => unreachable!("no piece {other:?} in {template:?}"),
                },
            };
            filled += &piece;
            rest = behind;
        }
        filled + rest
    }

    /// A permitted read of this id.
    pub(crate) fn read(&self, id: &str) -> String {
        self.read_with(id, "")
    }

    pub(crate) fn read_with(&self, id: &str, fields: &str) -> String {
        format!(
            "GET /STU3/DocumentReference/{id} HTTP/1.1\r\nHost: {EDGE_FQDN}\r\n{}{fields}\r\n",
            self.fields
        )
    }

    /// The same, and the end of the connection.
    pub(crate) fn last(&self, id: &str) -> String {
        self.read_with(id, "Connection: close\r\n")
    }
}
