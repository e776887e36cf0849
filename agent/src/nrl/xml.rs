//! Strict XML: what two parsers could read differently is refused, so that the locator sees what was checked.

use std::collections::HashMap;

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};

use super::tree::{Document, Fault, Node, Scalar, Written, folded};

const FHIR: &str = "http://hl7.org/fhir";
const XHTML: &str = "http://www.w3.org/1999/xhtml";

/// How many attributes an element may have. FHIR's have three at most, those of a narrative a few more.
const MAX_ATTRIBUTES: usize = 16;

/// What a narrative may be made of (FHIR STU3 "Narrative": HTML 4.0 chapters 7 to 11 and 15, links and images). No
/// element of FHIR that decides anything has one of these names.
const NARRATIVE: [&str; 57] = [
    "a",
    "abbr",
    "acronym",
    "address",
    "b",
    "bdo",
    "big",
    "blockquote",
    "br",
    "caption",
    "cite",
    "code",
    "col",
    "colgroup",
    "dd",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "font",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "kbd",
    "li",
    "ol",
    "p",
    "pre",
    "q",
    "s",
    "samp",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "tt",
    "u",
    "ul",
    "var",
    "center",
    "map",
];

impl Document {
    /// Reads an XML text of one FHIR resource.
    ///
    /// Beyond XML 1.0 and its namespaces: only the default namespace and no prefix; nothing but elements, attributes
    /// and white space (no DTD, no processing instruction, no CDATA section, no comment, no text); only the attributes
    /// that FHIR has; no two names beside one another that differ in case alone; at most [`Self::MAX_DEPTH`] elements
    /// inside one another, and [`Self::MAX_NODES`] in all. A narrative is checked and passed over.
    pub(super) fn from_xml(text: &[u8]) -> Result<Self, Fault> {
        let malformed = |why: &str| Fault::Malformed {
            format: "XML",
            why: why.to_owned(),
        };
        let text = std::str::from_utf8(text).map_err(|_| malformed("it is not UTF-8"))?;
        if !text.chars().all(is_char) || text.starts_with('\u{feff}') {
            return Err(malformed(
                "it has a character that XML does not allow, or a byte order mark",
            ));
        }
        if text.trim_start().starts_with(['{', '[']) {
            return Err(malformed("it begins as JSON does"));
        }
        let mut parser = Parser::new(text);
        parser.read(text).map_err(|why| {
            let path: Vec<_> = parser.open.iter().map(|open| open.name.as_str()).collect();
            let place = if path.is_empty() {
                String::new()
            } else {
                format!(" in {}", path.join("."))
            };
            malformed(&format!(
                "{why}{place} at byte {}",
                parser.reader.buffer_position()
            ))
        })
    }
}

struct Parser<'t> {
    reader: Reader<&'t [u8]>,
    open: Vec<Open>,
    elements: usize,
}

/// An element whose end has not come yet.
struct Open {
    name: String,
    node: Node,
    /// The names of what is inside, folded, and as they were written.
    names: HashMap<String, String>,
    /// Whether it holds a resource, which stands alone.
    is_full: bool,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Self {
        let mut reader = Reader::from_str(text);
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        config.check_comments = true;
        Self {
            reader,
            open: Vec::new(),
            elements: 0,
        }
    }

    fn read(&mut self, text: &str) -> Result<Document, String> {
        let mut root = None;
        let mut is_first = true;
        loop {
            match self.next()? {
                Event::Decl(_) if is_first => declaration(text)?,
                Event::Start(start) => {
                    let is_root = self.open.is_empty();
                    if is_root && root.is_some() {
                        return Err("something follows the resource".to_owned());
                    }
                    self.begin(&start, is_root)?;
                }
                Event::End(_) => root = self.end()?.or(root),
                Event::Text(text) if is_blank(&text) => {}
                Event::Eof => break,
                event => return Err(format!("{} is not allowed", kind(&event))),
            }
            is_first = false;
        }
        match (root, self.open.is_empty()) {
            (Some(root), true) => Ok(Document::new(root)),
            (None, true) => Err("there is no element".to_owned()),
            (_, false) => Err("an element has no end".to_owned()),
        }
    }

    fn next(&mut self) -> Result<Event<'t>, String> {
        self.reader.read_event().map_err(|error| error.to_string())
    }

    fn begin(&mut self, start: &BytesStart<'_>, is_root: bool) -> Result<(), String> {
        self.count(0)?;
        let name = start.name().into_inner();
        if !is_name(name) || name == "resourceType" {
            return Err(format!("the element {name:?} is not allowed"));
        }
        let attributes = attributes(start)?;
        if name == "div" && self.open.last().is_some_and(|parent| parent.name == "text") {
            return self.narrative(&attributes);
        }
        let mut node = Node::default();
        let is_resource = name.starts_with(|first: char| first.is_ascii_uppercase());
        if is_resource {
            let kind = Node::of(Scalar::Text(name.to_owned()));
            node.add("resourceType".to_owned(), vec![kind], Written::One);
        }
        let mut has_namespace = false;
        for (attribute, value) in attributes {
            match attribute.as_str() {
                "xmlns" if value == FHIR => has_namespace = true,
                "value" if !is_resource => node.set(Scalar::Text(value)),
                // What a name may not begin with keeps these apart from elements.
                "id" | "url" if !is_resource => {
                    let value = Node::of(Scalar::Text(value));
                    node.add(format!("@{attribute}"), vec![value], Written::One);
                }
                _ => {
                    return Err(format!(
                        "the attribute {attribute}={value:?} of {name} is not allowed"
                    ));
                }
            }
        }
        if is_root && !(is_resource && has_namespace) {
            return Err(format!(
                "the outermost element must be a resource with xmlns={FHIR:?}"
            ));
        }
        if let Some(parent) = self.open.last_mut() {
            parent.take(name, is_resource)?;
        }
        self.open.push(Open {
            name: name.to_owned(),
            node,
            names: HashMap::new(),
            is_full: false,
        });
        Ok(())
    }

    /// Gives the element to the one around it; the outermost is given back.
    fn end(&mut self) -> Result<Option<Node>, String> {
        let ended = self.open.pop().ok_or("an element ends that has not begun")?;
        let Some(parent) = self.open.last_mut() else {
            return Ok(Some(ended.node));
        };
        if parent.is_full {
            // As in JSON, where a resource has no element of its own.
            parent.node = ended.node;
        } else {
            parent.node.add(ended.name, vec![ended.node], Written::Elements);
        }
        Ok(None)
    }

    /// Passes over a narrative, whose outermost element has begun: XHTML that nothing of the resource can hide in.
    fn narrative(&mut self, attributes: &[(String, String)]) -> Result<(), String> {
        if !attributes
            .iter()
            .any(|(name, value)| name == "xmlns" && value == XHTML)
        {
            return Err(format!("a narrative must have xmlns={XHTML:?}"));
        }
        narrative_attributes(attributes)?;
        let mut depth = 1;
        while depth > 0 {
            match self.next()? {
                Event::Start(start) => {
                    self.count(depth)?;
                    let name = start.name().into_inner();
                    if !NARRATIVE.contains(&name) {
                        return Err(format!("the element {name:?} is not allowed in a narrative"));
                    }
                    narrative_attributes(&self::attributes(&start)?)?;
                    depth += 1;
                }
                Event::End(_) => depth -= 1,
                Event::Text(text) if !text.contains("]]>") => {}
                Event::GeneralRef(reference) => {
                    let reference = format!("&{};", reference.into_inner());
                    resolved(&reference)?;
                }
                event => return Err(format!("{} is not allowed in a narrative", kind(&event))),
            }
        }
        Ok(())
    }

    fn count(&mut self, inside: usize) -> Result<(), String> {
        self.elements += 1;
        if self.elements > Document::MAX_NODES {
            return Err("there are too many elements".to_owned());
        }
        if self.open.len() + inside >= Document::MAX_DEPTH {
            return Err("elements are nested too deeply".to_owned());
        }
        Ok(())
    }
}

impl Open {
    /// Makes room for an element inside.
    fn take(&mut self, name: &str, is_resource: bool) -> Result<(), String> {
        if self.is_full || (is_resource && !(self.node.is_empty() && self.names.is_empty())) {
            return Err(format!("{name} stands beside a resource"));
        }
        self.is_full = is_resource;
        let known = self.names.entry(folded(name)).or_insert_with(|| name.to_owned());
        if known != name {
            return Err(format!("{known} and {name} differ in case alone"));
        }
        Ok(())
    }
}

/// `<?xml version="1.0" encoding="UTF-8"?>`, at the very beginning.
fn declaration(text: &str) -> Result<(), String> {
    let content = text
        .strip_prefix("<?")
        .and_then(|rest| rest.split_once("?>"))
        .map_or("", |(content, _)| content);
    let attributes = attributes(&BytesStart::from_content(content, "xml".len()))?;
    let mut attributes = attributes
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let version = attributes.next();
    let mut next = attributes.next();
    if let Some(("encoding", value)) = next {
        if !value.eq_ignore_ascii_case("utf-8") {
            return Err(format!("the encoding {value:?} is not UTF-8"));
        }
        next = attributes.next();
    }
    if let Some(("standalone", "yes" | "no")) = next {
        next = attributes.next();
    }
    if version != Some(("version", "1.0")) || next.is_some() {
        return Err("the XML declaration is not one of XML 1.0".to_owned());
    }
    Ok(())
}

/// An element's attributes with their values, each name once.
fn attributes(start: &BytesStart<'_>) -> Result<Vec<(String, String)>, String> {
    if !is_spaced(start.attributes_raw()) {
        return Err("attributes are not parted by a space".to_owned());
    }
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        if attributes.len() == MAX_ATTRIBUTES {
            return Err(format!("an element has more than {MAX_ATTRIBUTES} attributes"));
        }
        let value = attribute
            .normalized_value(XmlVersion::Explicit1_0)
            .map_err(|error| error.to_string())?;
        if attribute.value.contains('<') || !value.chars().all(is_char) {
            return Err("an attribute has a character that XML does not allow".to_owned());
        }
        attributes.push((attribute.key.into_inner().to_owned(), value.into_owned()));
    }
    Ok(attributes)
}

fn narrative_attributes(attributes: &[(String, String)]) -> Result<(), String> {
    let is_sound = |name: &str, value: &str| match name {
        "xmlns" => value == XHTML,
        "xml:lang" => true,
        _ => is_name(name),
    };
    match attributes.iter().find(|(name, value)| !is_sound(name, value)) {
        None => Ok(()),
        Some((name, value)) => Err(format!(
            "the attribute {name}={value:?} is not allowed in a narrative"
        )),
    }
}

/// Whether a space follows each attribute's value, which the parser does not ask for.
fn is_spaced(attributes: &str) -> bool {
    let mut quote = None;
    let mut chars = attributes.chars().peekable();
    while let Some(c) = chars.next() {
        if quote == Some(c) {
            quote = None;
            if chars.peek().is_some_and(|next| !next.is_ascii_whitespace()) {
                return false;
            }
        } else if quote.is_none() && matches!(c, '"' | '\'') {
            quote = Some(c);
        }
    }
    true
}

/// A reference to one of the five entities of XML or to a character.
fn resolved(reference: &str) -> Result<(), String> {
    let text = quick_xml::escape::unescape(reference).map_err(|error| error.to_string())?;
    if text.chars().all(is_char) {
        Ok(())
    } else {
        Err("a character reference names what XML does not allow".to_owned())
    }
}

/// FHIR's names, of elements and attributes.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_blank(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// XML 1.0 section 2.2.
const fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

const fn kind(event: &Event<'_>) -> &'static str {
    match event {
        Event::Text(_) => "text between elements",
        Event::CData(_) => "a CDATA section",
        Event::Comment(_) => "a comment",
        Event::Decl(_) => "an XML declaration that is not at the beginning",
        Event::PI(_) => "a processing instruction",
        Event::DocType(_) => "a DTD",
        Event::GeneralRef(_) => "a reference between elements",
        Event::Start(_) | Event::End(_) | Event::Empty(_) | Event::Eof => "this",
    }
}

#[cfg(test)]
mod tests;
