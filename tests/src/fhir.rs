//! FHIR resources in XML and in JSON, one made of the other (FHIR STU3 "XML Representation of Resources"), for the few
//! resources that the lab sends about. The agent has a reader of its own.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use roxmltree::{Document, Node};
use serde_json::{Map, Value, json};

const FHIR: &str = "http://hl7.org/fhir";

/// The elements that may be there more than once, in DocumentReference, Parameters, Bundle and OperationOutcome.
const LISTS: [&str; 22] = [
    "author",
    "coding",
    "contained",
    "content",
    "entry",
    "event",
    "expression",
    "extension",
    "issue",
    "link",
    "location",
    "modifierExtension",
    "parameter",
    "part",
    "profile",
    "related",
    "relatesTo",
    "security",
    "securityLabel",
    "tag",
    "telecom",
    "udiCarrier",
];

/// A resource in XML.
#[must_use]
pub fn to_xml(resource: &Value) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    if let Value::Object(members) = resource {
        write_resource(&mut text, members, &format!(" xmlns=\"{FHIR}\""));
    }
    text
}

/// A resource in JSON. Numbers and truth values stay texts, since XML has nothing else.
///
/// # Errors
/// The text is not XML, or not of FHIR's namespace.
pub fn from_xml(text: &str) -> Result<Value> {
    let document = Document::parse(text).context("it is not XML")?;
    resource(document.root_element())
}

fn write_resource(text: &mut String, resource: &Map<String, Value>, xmlns: &str) {
    let kind = resource.get("resourceType").and_then(Value::as_str);
    let kind = kind.unwrap_or("Resource");
    let _ = write!(text, "<{kind}{xmlns}>");
    for (name, value) in resource.iter().filter(|(name, _)| *name != "resourceType") {
        write_element(text, name, value);
    }
    let _ = write!(text, "</{kind}>");
}

fn write_element(text: &mut String, name: &str, value: &Value) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| write_element(text, name, value)),
        Value::Object(members) if members.contains_key("resourceType") => {
            let _ = write!(text, "<{name}>");
            write_resource(text, members, "");
            let _ = write!(text, "</{name}>");
        }
        Value::Object(members) => {
            let url = members.get("url").and_then(Value::as_str);
            let attribute = url.filter(|_| name.ends_with("xtension"));
            let _ = match attribute {
                Some(url) => write!(text, "<{name} url=\"{}\">", escaped(url)),
                None => write!(text, "<{name}>"),
            };
            for (inner, value) in members {
                if inner != "url" || attribute.is_none() {
                    write_element(text, inner, value);
                }
            }
            let _ = write!(text, "</{name}>");
        }
        // It is XHTML in either format.
        Value::String(xhtml) if name == "div" => text.push_str(xhtml),
        Value::String(value) => {
            let _ = write!(text, "<{name} value=\"{}\"/>", escaped(value));
        }
        other => {
            let _ = write!(text, "<{name} value=\"{other}\"/>");
        }
    }
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        let _ = match c {
            '&' | '<' | '"' | '\t' | '\n' | '\r' => write!(escaped, "&#{};", u32::from(c)),
            other => write!(escaped, "{other}"),
        };
        escaped
    })
}

fn resource(node: Node<'_, '_>) -> Result<Value> {
    let name = node.tag_name();
    ensure!(
        name.namespace() == Some(FHIR),
        "{} is not of FHIR's namespace",
        name.name()
    );
    let mut members = children(node, true)?;
    members.insert("resourceType".to_owned(), json!(name.name()));
    Ok(Value::Object(members))
}

fn children(node: Node<'_, '_>, of_resource: bool) -> Result<Map<String, Value>> {
    let mut members = Map::new();
    for child in node.children().filter(Node::is_element) {
        let name = child.tag_name().name();
        let value = element(child)?;
        let is_list = LISTS.contains(&name) || (of_resource && name == "identifier");
        if is_list {
            let list = members.entry(name).or_insert_with(|| json!([]));
            list.as_array_mut().context("a list")?.push(value);
        } else {
            ensure!(
                members.insert(name.to_owned(), value).is_none(),
                "{name} is there twice"
            );
        }
    }
    Ok(members)
}

fn element(node: Node<'_, '_>) -> Result<Value> {
    let name = node.tag_name();
    if name.name() == "div" {
        let source = node.document().input_text();
        return Ok(json!(source.get(node.range()).unwrap_or_default()));
    }
    ensure!(
        name.namespace() == Some(FHIR),
        "{} is not of FHIR's namespace",
        name.name()
    );
    if let Some(value) = node.attribute("value") {
        return Ok(json!(value));
    }
    let starts_large = |child: &Node<'_, '_>| {
        child.is_element()
            && child
                .tag_name()
                .name()
                .starts_with(|first: char| first.is_ascii_uppercase())
    };
    if let Some(inner) = node.children().find(starts_large) {
        return resource(inner);
    }
    let mut members = children(node, false)?;
    if let Some(url) = node.attribute("url") {
        members.insert("url".to_owned(), json!(url));
    }
    Ok(Value::Object(members))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{NHS_NUMBER, pointer, superseding};

    #[test]
    fn a_resource_is_the_same_after_the_way_to_xml_and_back() {
        let old = pointer("RR8", NHS_NUMBER);
        let mut new = superseding(pointer("RR8", NHS_NUMBER), &old);
        if let Some(members) = new.as_object_mut() {
            let div = "<div xmlns=\"http://www.w3.org/1999/xhtml\">A <b>plan</b> &amp; more</div>";
            members.insert("text".to_owned(), json!({"status": "generated", "div": div}));
            members.insert("description".to_owned(), json!("a<b>&\"c\"\n'é"));
            members.insert(
                "contained".to_owned(),
                json!([{"resourceType": "Organization", "id": "o"}]),
            );
        }
        assert_eq!(from_xml(&to_xml(&new)).unwrap(), new);
        let bundle = json!({"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": new}, {"resource": old}]});
        assert_eq!(from_xml(&to_xml(&bundle)).unwrap(), bundle);
    }

    #[test]
    fn what_is_no_resource_is_refused() {
        for text in [
            "",
            "{}",
            "<DocumentReference/>",
            "<DocumentReference xmlns=\"http://hl7.org/fhir\"><status xmlns=\"x\"/></DocumentReference>",
            "<DocumentReference xmlns=\"http://hl7.org/fhir\"><status/><status/></DocumentReference>",
        ] {
            assert!(from_xml(text).is_err(), "{text}");
        }
    }
}
