//! Any bytes as a pointer in JSON or XML: what is accepted reads the same with another parser, and again when that has
//! written it. Run by `cargo +nightly fuzz run pointer`.
#![no_main]

use roxmltree::Node;
use serde_json::Value;

use spinegate::nrl::{Format, Pointer, Status, check_status_update};

// The first byte says in which format.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((kind, text)) = bytes.split_first() else {
        return;
    };
    let format = if kind % 2 == 0 { Format::Json } else { Format::Xml };
    let pointer = Pointer::read(format, text);
    let update = check_status_update(format, text);
    let many = Pointer::read_searchset(format, text);
    assert!(
        [pointer.is_ok(), update.is_ok(), many.is_ok()]
            .into_iter()
            .filter(|ok| *ok)
            .count()
            <= 1,
        "a text is one thing"
    );
    match format {
        Format::Json => {
            if pointer.is_err() && update.is_err() && many.is_err() {
                return;
            }
            let value: Value = serde_json::from_slice(text).expect("what is accepted is JSON");
            let again = serde_json::to_vec(&value).expect("JSON is written again");
            assert_eq!(Pointer::read(format, &again).ok(), pointer.as_ref().ok().cloned());
            assert_eq!(Pointer::read_searchset(format, &again).ok(), many.ok());
            assert_eq!(check_status_update(format, &again).is_ok(), update.is_ok());
            if let Ok(pointer) = &pointer {
                assert_eq!(of_json(&value), of(pointer));
            }
            if update.is_ok() {
                assert!(value.to_string().contains("entered-in-error"));
            }
        }
        Format::Xml => {
            let Ok(pointer) = &pointer else { return };
            let text = std::str::from_utf8(text).expect("what is accepted is UTF-8");
            let document = roxmltree::Document::parse(text).expect("what is accepted is XML");
            assert_eq!(of_xml(document.root_element()), of(pointer));
        }
    }
});

/// What decides, as texts: id, status, custodian, subject, and whether it replaces another.
type Parts = (Option<String>, String, String, String, bool);

fn of(pointer: &Pointer) -> Parts {
    let status = match pointer.status {
        Status::Current => "current",
        Status::Superseded => "superseded",
        Status::EnteredInError => "entered-in-error",
    };
    (
        pointer.id.as_ref().map(ToString::to_string),
        status.to_owned(),
        pointer.custodian.to_string(),
        pointer.subject.as_str().to_owned(),
        pointer.replaces.is_some(),
    )
}

fn last(reference: &str) -> String {
    reference.rsplit('/').next().unwrap_or_default().to_owned()
}

fn of_json(value: &Value) -> Parts {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    (
        text("/id"),
        text("/status").expect("a status"),
        last(&text("/custodian/reference").expect("a custodian")).to_uppercase(),
        last(&text("/subject/reference").expect("a subject")),
        value
            .get("relatesTo")
            .is_some_and(|relations| !relations.is_null()),
    )
}

fn of_xml(root: Node<'_, '_>) -> Parts {
    let child = |node: Node<'_, '_>, name: &str| -> Option<String> {
        let mut named = node
            .children()
            .filter(|one| one.has_tag_name(("http://hl7.org/fhir", name)));
        let found = named.next()?.attribute("value").map(str::to_owned);
        assert!(named.next().is_none(), "{name} is there twice");
        found
    };
    let within = |outer: &str| -> String {
        let mut named = root
            .children()
            .filter(|one| one.has_tag_name(("http://hl7.org/fhir", outer)));
        let node = named.next().expect(outer);
        assert!(named.next().is_none(), "{outer} is there twice");
        last(&child(node, "reference").expect("a reference"))
    };
    (
        child(root, "id"),
        child(root, "status").expect("a status"),
        within("custodian").to_uppercase(),
        within("subject"),
        root.children().any(|one| one.has_tag_name("relatesTo")),
    )
}
