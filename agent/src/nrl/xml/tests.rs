//! What is refused, and that a pointer is the same one in both formats, by an independent reader's word too.

use std::fmt::Write as _;

use proptest::{prelude::*, sample::select};
use serde_json::{Map, Value, json};

use crate::nrl::{Format, NhsNumber, ORGANISATION_PREFIX, Pointer, check_status_update};

use super::{Document, FHIR, Fault};

const POINTER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DocumentReference xmlns="http://hl7.org/fhir">
  <text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml">A <b xml:lang="en">crisis</b> plan &amp; &#169;</div></text>
  <masterIdentifier><system value="urn:ietf:rfc:3986"/><value value="urn:oid:1.2.3"/></masterIdentifier>
  <status value="current"/>
  <subject><reference value="https://demographics.spineservices.nhs.uk/STU3/Patient/9876543210"/></subject>
  <author><reference value="https://directory.spineservices.nhs.uk/STU3/Organization/RGD"/></author>
  <custodian id="c"><reference value="https://directory.spineservices.nhs.uk/STU3/Organization/RR8"/></custodian>
  <content><attachment><url value="https://p.nhs.uk/1"/></attachment>
    <extension url="https://fhir.nhs.uk/x"><valueCode value="static"/></extension></content>
</DocumentReference>
"#;

fn read(text: &str) -> Result<Pointer, String> {
    Pointer::read(Format::Xml, text.as_bytes()).map_err(|error| error.to_string())
}

/// A pointer with something of it replaced by something else.
fn with(old: &str, new: &str) -> Result<Pointer, String> {
    assert!(POINTER.contains(old), "{old}");
    read(&POINTER.replacen(old, new, 1))
}

#[test]
fn a_pointer_is_read_and_its_narrative_is_passed_over() {
    let pointer = read(POINTER).unwrap();
    assert_eq!(pointer.custodian.as_str(), "RR8");
    assert_eq!(pointer.subject.as_str(), "9876543210");
    assert_eq!(pointer.master_identifier.unwrap().value, "urn:oid:1.2.3");
    for (old, new) in [
        ("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", ""),
        ("encoding=\"UTF-8\"", ""),
        ("encoding=\"UTF-8\"", "encoding='utf-8' standalone=\"yes\""),
        ("<custodian id=\"c\">", "<custodian\n\tid = 'c' >"),
        ("</custodian>", "</custodian >"),
        (
            "<custodian id=\"c\">",
            "<custodian xmlns=\"http://hl7.org/fhir\">",
        ),
        ("Organization/RR8", "Organization/RR&#56;"),
        ("Organization/RR8", "Organization/&#x52;R8"),
        (
            "<text>",
            "<contained><Organization><id value=\"o\"/></Organization></contained><text>",
        ),
    ] {
        assert_eq!(
            with(old, new).map(|pointer| pointer.custodian.to_string()),
            Ok("RR8".to_owned()),
            "{new}"
        );
    }
}

#[test]
fn what_two_parsers_could_read_differently_is_refused_by_name() {
    let xmlns = " xmlns=\"http://hl7.org/fhir\"";
    let declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
    for (old, new, named) in [
        (xmlns, "", "outermost"),
        (xmlns, " xmlns=\"http://hl7.org/fhir/\"", "xmlns"),
        (
            xmlns,
            " xmlns=\"http://hl7.org/fhir\" xmlns:f=\"http://hl7.org/fhir\"",
            "xmlns:f",
        ),
        (xmlns, " xmlns=\"http://hl7.org/fhir\" id=\"1\"", "id"),
        ("<custodian id=\"c\">", "<custodian xmlns=\"\">", "custodian"),
        (
            "<custodian id=\"c\">",
            "<custodian xmlns=\"urn:other\">",
            "custodian",
        ),
        ("<custodian id=\"c\">", "<f:custodian>", "f:custodian"),
        (
            "<custodian id=\"c\">",
            "<custodian id=\"c\" id=\"d\">",
            "duplicate",
        ),
        ("<custodian id=\"c\">", "<custodian id=\"c\"url=\"d\">", "space"),
        ("<custodian id=\"c\">", "<custodian id=c>", "attribute"),
        ("<custodian id=\"c\">", "<custodian id>", "attribute"),
        ("<custodian id=\"c\">", "<custodian href=\"c\">", "href"),
        ("<custodian id=\"c\">", "<custodian xsi:nil=\"true\">", "xsi:nil"),
        ("<custodian id=\"c\">", "<custodian id=\"<\">", "attribute"),
        ("<custodian id=\"c\">", "<custodian id=\"&#1;\">", "attribute"),
        ("<custodian id=\"c\">", "<custodian id=\"&nbsp;\">", "nbsp"),
        ("<custodian id=\"c\">", "<custodian id=\"&amp\">", "escaping"),
        ("<custodian id=\"c\">", "<custodian id=\"c\">RR8", "text between"),
        (
            "<custodian id=\"c\">",
            "<custodian id=\"c\">&lt;",
            "reference between",
        ),
        (
            "<custodian id=\"c\">",
            "<custodian id=\"c\"><![CDATA[ ]]>",
            "CDATA",
        ),
        ("<custodian id=\"c\">", "<custodian id=\"c\"><!-- -->", "comment"),
        (
            "<custodian id=\"c\">",
            "<custodian id=\"c\"><?php ?>",
            "processing",
        ),
        (
            "<custodian id=\"c\">",
            "<custodian id=\"c\"><DocumentReference/>",
            "beside a resource",
        ),
        (
            "<custodian id=\"c\">",
            "<custodian id=\"c\"><resourceType value=\"x\"/>",
            "resourceType",
        ),
        (
            "<status value=\"current\"/>",
            "<status value=\"current\"/><Status/>",
            "Status",
        ),
        (
            "<status value=\"current\"/>",
            "<status value=\"current\"/><ſtatus/>",
            "ſtatus",
        ),
        ("</custodian>", "", "expected"),
        ("</custodian>", "</custodian></custodian>", "expected"),
        ("</custodian>", "</ custodian>", "expected"),
        ("</DocumentReference>", "", "no end"),
        (
            "</DocumentReference>",
            "</DocumentReference><DocumentReference/>",
            "follows",
        ),
        ("</DocumentReference>", "</DocumentReference>x", "text between"),
        ("</DocumentReference>", "</DocumentReference><!---->", "comment"),
        ("</DocumentReference>", "</DocumentReference></x>", "close tag"),
        (declaration, "<!DOCTYPE DocumentReference>", "DTD"),
        (declaration, "<!DOCTYPE d [<!ENTITY e \"RR8\">]>", "DTD"),
        (declaration, "<?xml version=\"1.1\"?>", "XML 1.0"),
        (declaration, "<?xml encoding=\"UTF-8\"?>", "XML 1.0"),
        (
            declaration,
            "<?xml version=\"1.0\" encoding=\"UTF-16\"?>",
            "UTF-16",
        ),
        (
            declaration,
            "<?xml version=\"1.0\" encoding=\"UTF-8\" x=\"1\"?>",
            "XML 1.0",
        ),
        (
            declaration,
            "<?xml version=\"1.0\"?><?xml version=\"1.0\"?>",
            "declaration",
        ),
        (declaration, " <?xml version=\"1.0\"?>", "declaration"),
        (declaration, "\u{feff}", "byte order mark"),
        (declaration, "\u{1}", "character"),
        (declaration, "\u{ffff}", "character"),
        (declaration, "<>", "\"\""),
        (declaration, "x", "text between"),
    ] {
        let error = with(old, new).unwrap_err();
        assert!(
            error.starts_with("Invalid Request Message: not acceptable as XML") && error.contains(named),
            "{new}: {error}"
        );
    }
    for text in [
        "",
        " ",
        "<",
        "<a",
        "{}",
        "\u{feff}{}",
        "<DocumentReference/>",
        "</a>",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
    assert!(Document::from_xml(b"<A xmlns=\"http://hl7.org/fhir\"><b value=\"\xff\"/></A>").is_err());
    let wide: Vec<u8> = POINTER.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(Document::from_xml(&wide).is_err());
}

#[test]
fn elements_that_decide_are_there_once_and_with_nothing_added() {
    let rr8 = "<custodian id=\"c\"><reference value=\"https://directory.spineservices.nhs.uk/STU3/Organization/RR8\"/>";
    for (old, new, named) in [
        (
            "<custodian id=\"c\">",
            "<custodian/><custodian>",
            "custodian is there more than once",
        ),
        (
            "<custodian id=\"c\">",
            "<custodian value=\"x\">",
            "custodian must be an object",
        ),
        (rr8, "<custodian>", "custodian.reference is missing"),
        (
            rr8,
            &format!("{rr8}<reference value=\"x\"/>"),
            "custodian.reference is there more than once",
        ),
        (
            rr8,
            &format!("{rr8}<identifier><value value=\"RGD\"/></identifier>"),
            "custodian.identifier",
        ),
        (
            "<status value=\"current\"/>",
            "<status value=\"current\"/><status value=\"current\"/>",
            "status",
        ),
        (
            "<status value=\"current\"/>",
            "<status value=\"current\" id=\"s\"/>",
            "status must be a string",
        ),
        (
            "<status value=\"current\"/>",
            "<status value=\"current\"><extension url=\"x\"/></status>",
            "status must be a string",
        ),
        (
            "<status value=\"current\"/>",
            "<status/>",
            "status must be a string",
        ),
        (
            "<status value=\"current\"/>",
            "<Status value=\"current\"/>",
            "Status",
        ),
        (
            "<status value=\"current\"/>",
            "<status value=\"current \"/>",
            "status",
        ),
        (
            "<masterIdentifier>",
            "<masterIdentifier/><masterIdentifier>",
            "masterIdentifier",
        ),
        (
            "<author>",
            "<relatesTo><code value=\"appends\"/></relatesTo><author>",
            "relatesTo[0].code",
        ),
        (
            "<author>",
            "<RelatesTo><code value=\"replaces\"/></RelatesTo><author>",
            "RelatesTo",
        ),
    ] {
        let error = with(old, new).unwrap_err();
        assert!(error.contains(named), "{new}: {error}");
    }
}

#[test]
fn nothing_hides_in_a_narrative() {
    let div = "<div xmlns=\"http://www.w3.org/1999/xhtml\">";
    for inside in [
        "<custodian/>",
        "<reference value=\"x\"/>",
        "<p xmlns=\"http://hl7.org/fhir\"/>",
        "<p xmlns:f=\"http://hl7.org/fhir\"/>",
        "<f:p/>",
        "<p f:a=\"b\"/>",
        "<script/>",
        "<P/>",
        "<!-- </div></text><custodian/> -->",
        "<![CDATA[</div>]]>",
        "<?x ?>",
        "]]>",
        "&nbsp;",
        "&#0;",
        "&x;",
        "</div><custodian/><div>",
        "<b>",
        "</b>",
    ] {
        assert!(with(div, &format!("{div}{inside}")).is_err(), "{inside}");
    }
    assert!(with(div, "<div>").is_err() && with(div, "<div xmlns=\"http://hl7.org/fhir\">").is_err());
    assert!(
        with(
            "<text>",
            "<custodian><div xmlns=\"http://www.w3.org/1999/xhtml\"/></custodian><text>"
        )
        .is_err()
    );
}

#[test]
fn depth_elements_and_attributes_are_bounded() {
    let nested = |depth: usize| {
        let (open, close) = ("<a>".repeat(depth), "</a>".repeat(depth));
        format!("<A xmlns=\"{FHIR}\">{open}{close}</A>")
    };
    assert!(Document::from_xml(nested(Document::MAX_DEPTH - 1).as_bytes()).is_ok());
    for depth in [Document::MAX_DEPTH, 100_000] {
        let error = Document::from_xml(nested(depth).as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains("deeply"), "{error}");
    }
    let narrative = |depth: usize| {
        let (open, close) = ("<b>".repeat(depth), "</b>".repeat(depth));
        let div = "<div xmlns=\"http://www.w3.org/1999/xhtml\">";
        format!("<A xmlns=\"{FHIR}\"><text>{div}{open}{close}</div></text></A>")
    };
    assert!(Document::from_xml(narrative(20).as_bytes()).is_ok());
    assert!(Document::from_xml(narrative(32).as_bytes()).is_err());
    let many = |count: usize| format!("<A xmlns=\"{FHIR}\">{}</A>", "<a/>".repeat(count));
    assert!(Document::from_xml(many(Document::MAX_NODES - 1).as_bytes()).is_ok());
    assert!(Document::from_xml(many(Document::MAX_NODES).as_bytes()).is_err());
    let wide: String = (0..10_000).fold(String::new(), |mut wide, index| {
        let _ = write!(wide, " a{index}=\"\"");
        wide
    });
    let text = format!(
        "<A xmlns=\"{FHIR}\"><text><div xmlns=\"http://www.w3.org/1999/xhtml\"><b{wide}/></div></text></A>"
    );
    let error = Document::from_xml(text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("more than 16 attributes"), "{error}");
}

#[test]
fn a_body_in_the_other_format_is_refused() {
    for (format, text) in [
        (Format::Json, POINTER),
        (
            Format::Xml,
            &json!({"resourceType": "DocumentReference"}).to_string(),
        ),
    ] {
        let error = Pointer::read(format, text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("Invalid Request Message"), "{error}");
        assert!(check_status_update(format, text.as_bytes()).is_err());
    }
}

#[test]
fn an_update_and_a_searchset_are_read_as_in_json() {
    let part = |name: &str, kind: &str, value: &str| json!({"name": name, kind: value});
    let update = json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
        part("type", "valueCode", "replace"),
        part("path", "valueString", "DocumentReference.status"),
        part("value", "valueString", "entered-in-error"),
    ]}]});
    assert_eq!(check_status_update(Format::Xml, xml(&update).as_bytes()), Ok(()));
    let mut other = update;
    other["parameter"][0]["part"][2]["valueString"] = json!("current");
    assert!(check_status_update(Format::Xml, xml(&other).as_bytes()).is_err());

    let pointer: Value = json!({
        "resourceType": "DocumentReference", "id": "p1", "status": "current",
        "subject": {"reference": format!("{}9876543210", NhsNumber::REFERENCE_PREFIX)},
        "custodian": {"reference": format!("{ORGANISATION_PREFIX}RR8")},
    });
    let bundle = |entries: &[&Value]| {
        let entries: Vec<_> = entries
            .iter()
            .map(|resource| json!({"resource": resource}))
            .collect();
        json!({"resourceType": "Bundle", "type": "searchset", "total": 1,
            "link": [{"relation": "self", "url": "x"}], "entry": entries})
    };
    let outcome = json!({"resourceType": "OperationOutcome"});
    let found = |bundle: &Value| Pointer::read_searchset(Format::Xml, xml(bundle).as_bytes());
    assert_eq!(found(&bundle(&[&pointer, &outcome, &pointer])).unwrap().len(), 2);
    assert_eq!(found(&bundle(&[&outcome])), Ok(Vec::new()));
    let mut paged = bundle(&[&pointer]);
    paged["link"][0]["relation"] = json!("next");
    assert!(found(&paged).is_err());
}

/// A resource in XML as FHIR's rules have it (FHIR STU3 "XML Representation of Resources").
fn xml(resource: &Value) -> String {
    let mut text = String::new();
    write_resource(
        &mut text,
        resource.as_object().unwrap(),
        &format!(" xmlns=\"{FHIR}\""),
    );
    text
}

fn write_resource(text: &mut String, resource: &Map<String, Value>, xmlns: &str) {
    let kind = resource["resourceType"].as_str().unwrap();
    let _ = write!(text, "<{kind}{xmlns}>");
    for (name, value) in resource.iter().filter(|(name, _)| *name != "resourceType") {
        write_element(text, name, value);
    }
    let _ = write!(text, "</{kind}>");
}

fn write_element(text: &mut String, name: &str, value: &Value) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| write_element(text, name, value)),
        Value::Object(members) => {
            let _ = write!(text, "<{name}>");
            if members.contains_key("resourceType") {
                write_resource(text, members, "");
            } else {
                members
                    .iter()
                    .for_each(|(name, value)| write_element(text, name, value));
            }
            let _ = write!(text, "</{name}>");
        }
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
            c => write!(escaped, "{c}"),
        };
        escaped
    })
}

/// Texts that XML can hold.
fn text() -> impl Strategy<Value = String> {
    "[ -~\t\n\ré漢\u{10348}&<>\"']{0,12}"
}

fn or(good: String) -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just(good.clone()),
        1 => text(),
        1 => text().prop_map(move |tail| format!("{good}{tail}")),
    ]
}

/// Pointers, most of them sound, others with something missing or spoilt.
fn pointers() -> impl Strategy<Value = Value> {
    let identifier = || {
        (or("urn:ietf:rfc:3986".to_owned()), text())
            .prop_map(|(system, value)| json!({"system": system, "value": value}))
    };
    let organisation = prop_oneof![Just("RR8"), Just("rgd"), Just("A20047"), Just("R"), Just("")];
    let target = (
        proptest::option::of(or("https://h/DocumentReference/p1".to_owned())),
        proptest::option::of(identifier()),
    )
        .prop_map(|(reference, identifier)| json!({"reference": reference, "identifier": identifier}));
    let relation = (or("replaces".to_owned()), target)
        .prop_map(|(code, target)| json!({"code": code, "target": target}));
    (
        proptest::option::weighted(0.5, or("da2b-58".to_owned())),
        or("current".to_owned()),
        organisation.prop_flat_map(|code| or(format!("{ORGANISATION_PREFIX}{code}"))),
        or(format!("{}9876543210", NhsNumber::REFERENCE_PREFIX)),
        proptest::option::of(identifier()),
        proptest::collection::vec(relation, 0..3),
        (
            text(),
            proptest::option::weighted(0.1, select(vec!["status", "custodian", "subject"])),
        ),
    )
        .prop_map(
            |(id, status, custodian, subject, master, relations, (description, missing))| {
                let mut pointer = json!({
                    "resourceType": "DocumentReference", "id": id, "status": status,
                    "masterIdentifier": master, "description": description,
                    "custodian": {"reference": custodian, "display": description},
                    "subject": {"reference": subject},
                    "author": [{"reference": custodian}, {"reference": "x"}],
                });
                if !relations.is_empty() {
                    pointer["relatesTo"] = json!(relations);
                }
                let pointer_members = pointer.as_object_mut().unwrap();
                if let Some(missing) = missing {
                    pointer_members.remove(missing);
                }
                without_nulls(&mut pointer);
                pointer
            },
        )
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(without_nulls);
        }
        Value::Array(values) => values.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// What a parser of another kind finds: by local names alone, wherever a lenient locator would look.
fn by_another_parser(text: &str) -> (Vec<String>, Vec<String>, usize) {
    let document = roxmltree::Document::parse(text).expect("what is accepted is XML");
    let root = document.root_element();
    let references = |name: &str| {
        root.descendants()
            .filter(|node| node.tag_name().name().eq_ignore_ascii_case(name))
            .flat_map(|node| node.descendants().filter_map(|inner| inner.attribute("value")))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let relations = root
        .children()
        .filter(|node| node.tag_name().name().eq_ignore_ascii_case("relatesTo"));
    (references("custodian"), references("subject"), relations.count())
}

const FRAGMENTS: &[&str] = &[
    "<custodian>",
    "</custodian>",
    "<custodian/>",
    "<reference value=\"x\"/>",
    "<relatesTo/>",
    "<RelatesTo/>",
    " value=\"x\"",
    " xmlns=\"http://hl7.org/fhir\"",
    " xmlns=\"\"",
    " xmlns:f=\"http://hl7.org/fhir\"",
    "f:",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?x ?>",
    "<!DOCTYPE x>",
    "&#82;",
    "&amp;",
    "&x;",
    "<div xmlns=\"http://www.w3.org/1999/xhtml\">",
    "</div>",
    "<text>",
    "</text>",
    "<contained>",
    "</contained>",
    "<Organization>",
    "</Organization>",
    "<",
    ">",
    "/>",
    "\"",
    "'",
    "=",
    " ",
    "\n",
    "R",
    "<?xml version=\"1.0\"?>",
    "<extension url=\"x\">",
    "</extension>",
    "\u{feff}",
    "</DocumentReference>",
];

proptest! {
    #[test]
    fn a_pointer_is_the_same_in_both_formats_and_so_is_what_is_wrong_with_it(pointer in pointers()) {
        let json = Pointer::read(Format::Json, pointer.to_string().as_bytes());
        let other = Pointer::read(Format::Xml, xml(&pointer).as_bytes());
        prop_assert_eq!(json, other);
    }

    #[test]
    fn another_parser_finds_no_other_owner_patient_or_relation_in_what_is_accepted(
        edits in proptest::collection::vec((0..POINTER.len(), 0usize..12, select(FRAGMENTS)), 1..4)
    ) {
        let mut text = POINTER.to_owned();
        for (at, length, fragment) in edits {
            let (at, end) = (at.min(text.len()), (at + length).min(text.len()));
            if text.is_char_boundary(at) && text.is_char_boundary(end) {
                text.replace_range(at..end, fragment);
            }
        }
        if let Ok(pointer) = read(&text) {
            let (custodians, subjects, relations) = by_another_parser(&text);
            let owner = custodians.first().and_then(|value| value.strip_prefix(ORGANISATION_PREFIX));
            let owner = owner.map(str::to_ascii_uppercase);
            prop_assert_eq!(owner.as_deref(), Some(pointer.custodian.as_str()), "{}", text);
            prop_assert_eq!(custodians.len(), 1, "{}", text);
            prop_assert!(subjects.iter().any(|value| value.ends_with(pointer.subject.as_str())), "{}", text);
            prop_assert_eq!(relations, usize::from(pointer.replaces.is_some()), "{}", text);
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&text).is_err());
        let is_malformed = matches!(Document::from_xml(&bytes), Err(Fault::Malformed { .. }));
        prop_assert!(is_malformed);
    }
}
