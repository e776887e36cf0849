//! A row of the table, and the request that it makes. `rows.toml` says what each key means.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use spinegate_tests::{
    client::{Message, NHS_NUMBER, Token, pointer},
    fhir,
    lab::{GATEWAY_ASID, Interaction, System, UNKNOWN_ASID},
};

const ROWS: &str = include_str!("rows.toml");
const POINTERS: &str = "/STU3/DocumentReference";

/// A request and what is decided on it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) name: String,
    #[serde(default = "provider")]
    system: String,
    method: String,
    #[serde(default)]
    target: String,
    path: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    claims: BTreeMap<String, String>,
    pointer: Option<String>,
    #[serde(default)]
    update: bool,
    #[serde(default)]
    set: BTreeMap<String, Value>,
    stored: Option<String>,
    json: Option<Text>,
    xml: Option<Text>,
    formats: Option<Vec<Format>>,
    pub(crate) status: u16,
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) issue: String,
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) display: String,
    pub(crate) diagnostics: Option<String>,
    #[serde(default)]
    pub(crate) names: Vec<String>,
}

/// A body in one format: as it stands, or with something of it replaced.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Text {
    Whole(String),
    Replaced { old: String, new: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Json,
    Xml,
}

impl Format {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Xml => "XML",
        }
    }

    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/fhir+json",
            Self::Xml => "application/fhir+xml",
        }
    }

    fn text(self, resource: &Value) -> String {
        match self {
            Self::Json => resource.to_string(),
            Self::Xml => fhir::to_xml(resource),
        }
    }
}

/// Which interaction IDs the registry has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Current,
    Old,
}

impl Family {
    fn id(self, interaction: Interaction) -> String {
        let current = interaction.urn();
        match self {
            Self::Current => current.to_owned(),
            Self::Old => {
                let name = current.rsplit('.').next().unwrap_or_default();
                format!("urn:nhs:names:services:nrls:fhir:rest:{name}:documentreference")
            }
        }
    }

    /// A registry of the current family in this one.
    pub(crate) fn of_registry(self, current: &str) -> String {
        let all = Interaction::ALL.iter();
        all.fold(current.to_owned(), |registry, one| {
            registry.replace(one.urn(), &self.id(*one))
        })
    }
}

/// Every row.
pub(crate) fn all() -> Result<Vec<Row>> {
    #[derive(Deserialize)]
    struct Table {
        row: Vec<Row>,
    }
    let table: Table = toml::from_str(ROWS).context("rows.toml")?;
    Ok(table.row)
}

impl Row {
    /// The formats in which it is asked: both, unless it has a body of its own for one alone.
    pub(crate) fn formats(&self) -> Vec<Format> {
        match (&self.formats, &self.json, &self.xml) {
            (Some(formats), ..) => formats.clone(),
            (None, Some(_), None) => vec![Format::Json],
            (None, None, Some(_)) => vec![Format::Xml],
            _ => vec![Format::Json, Format::Xml],
        }
    }
}

/// A row on its way to be a request.
pub(crate) struct Ready {
    row: Row,
    format: Format,
    family: Family,
    system: System,
    /// The pointer that is stored before.
    old: Option<Value>,
    id: String,
}

impl Ready {
    pub(crate) fn new(row: &Row, format: Format, family: Family) -> Self {
        Self {
            format,
            family,
            system: system(&row.system),
            old: row.stored.as_ref().map(|owner| pointer(owner, NHS_NUMBER)),
            id: String::new(),
            row: row.clone(),
        }
    }

    /// What has to be done before.
    pub(crate) fn before(&self) -> Option<Message> {
        let owner = self.row.stored.as_ref()?;
        let owner = System::OPEN.into_iter().find(|system| system.ods == owner)?;
        Some(Message::create(self.old.as_ref()?).from(&owner))
    }

    /// The id that the pointer got.
    pub(crate) fn stored(&mut self, id: &str) {
        id.clone_into(&mut self.id);
    }

    pub(crate) fn message(&self) -> Result<Message> {
        let row = &self.row;
        let scope = if row.method == "GET" { "read" } else { "write" };
        let path = row.path.as_deref().unwrap_or(POINTERS);
        let target = self.filled(&format!("{path}{}", row.target));
        let token = row
            .claims
            .iter()
            .fold(Token::of(&self.system, scope), |token, (name, value)| {
                let value = if value.is_empty() {
                    Value::Null
                } else {
                    json!(self.filled(value))
                };
                token.claim(name, value)
            });
        let mut message = Message::new(&row.method, &target, scope)
            .header("Accept", self.format.media_type())
            .from(&self.system)
            .token(&token);
        if let Some(body) = self.body()? {
            message = message.text(self.format.media_type(), body);
        }
        for (name, value) in &row.headers {
            message = match value.as_str() {
                "" => message.without(name),
                value => message.header(name, &self.filled(value)),
            };
        }
        Ok(message)
    }

    fn body(&self) -> Result<Option<String>> {
        let row = &self.row;
        let mut resource = match &row.pointer {
            Some(owner) => Some(pointer(owner, NHS_NUMBER)),
            None if row.update => Some(json!({
                "resourceType": "Parameters",
                "parameter": [{ "name": "operation", "part": [
                    { "name": "type", "valueCode": "replace" },
                    { "name": "path", "valueString": "DocumentReference.status" },
                    { "name": "value", "valueString": "entered-in-error" },
                ]}],
            })),
            None => None,
        };
        for (place, value) in &row.set {
            let value: Value = serde_json::from_str(&self.filled(&value.to_string()))?;
            let resource = resource
                .as_mut()
                .context("there is no body to set something in")?;
            let (parent, name) = place.rsplit_once('/').context("a place begins with a slash")?;
            match resource.pointer_mut(parent) {
                Some(Value::Object(members)) => drop(members.insert(name.to_owned(), value)),
                Some(Value::Array(values)) => {
                    *values.get_mut(name.parse::<usize>()?).context("no such entry")? = value;
                }
                _ => anyhow::bail!("nothing is at {parent}"),
            }
        }
        let text = resource.map(|resource| self.format.text(&resource));
        let own = match self.format {
            Format::Json => &row.json,
            Format::Xml => &row.xml,
        };
        Ok(match own {
            None => text,
            Some(Text::Whole(text)) => Some(self.filled(text)),
            Some(Text::Replaced { old, new }) => {
                let text = text.context("there is no body to replace something in")?;
                anyhow::ensure!(text.contains(old), "{old:?} is not in {text}");
                Some(text.replacen(old, &self.filled(new), 1))
            }
        })
    }

    /// A text with what it leaves open.
    pub(crate) fn filled(&self, text: &str) -> String {
        let master = self
            .old
            .as_ref()
            .and_then(|old| old.pointer("/masterIdentifier/value"));
        let master = master.and_then(Value::as_str).unwrap_or_default();
        let patient =
            format!("https%3A%2F%2Fdemographics.spineservices.nhs.uk%2FSTU3%2FPatient%2F{NHS_NUMBER}");
        let filled = text
            .replace("{id}", &self.id)
            .replace("{master}", master)
            .replace("{patient}", &patient)
            .replace("{asid}", self.system.asid)
            .replace("{ods}", self.system.ods)
            .replace("{gateway}", GATEWAY_ASID);
        Interaction::ALL.iter().fold(filled, |filled, interaction| {
            let name = interaction.urn().rsplit('.').next().unwrap_or_default();
            filled.replace(&format!("{{{name}}}"), &self.family.id(*interaction))
        })
    }
}

fn provider() -> String {
    "provider".to_owned()
}

fn system(name: &str) -> System {
    let known = System::ALL.into_iter().find(|system| system.name == name);
    known.unwrap_or(System {
        asid: UNKNOWN_ASID,
        ..System::ALL[0]
    })
}
