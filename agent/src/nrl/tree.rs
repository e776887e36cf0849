//! A resource as a tree, whether it came as JSON or as XML, so that what is looked for in it is written once.

use std::collections::{BTreeMap, btree_map::Entry};

use super::Format;

/// A whole text, read strictly: what two parsers could read differently was refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document(Node);

/// What a name stands for: a value, or further names, or (in XML) both.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Node {
    value: Option<Scalar>,
    children: BTreeMap<String, Children>,
}

/// All that stands under one name.
#[derive(Clone, Debug, PartialEq)]
struct Children {
    nodes: Vec<Node>,
    written: Written,
}

/// How it was written. XML does not tell a list of one from what is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    One,
    List,
    Elements,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool,
    Number(serde_json::Number),
    Text(String),
}

/// A node that has further names, and the path that leads to it.
#[derive(Clone, Debug)]
pub(super) struct Element<'a> {
    node: &'a Node,
    path: String,
}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// It is not in its format, as strictly as it is read here.
    #[error("not acceptable as {format}: {why}")]
    Malformed {
        /// `JSON` or `XML`
        format: &'static str,
        /// The rule that it breaks.
        why: String,
    },
    /// An element that must be there is not.
    #[error("{0} is missing")]
    Missing(String),
    /// An element that is no list is there more than once.
    #[error("{0} is there more than once")]
    Repeated(String),
    /// An element is there under a name that some take for it.
    #[error("{found} is not how {path} is written")]
    Misspelt {
        /// The element.
        path: String,
        /// The name as it was sent.
        found: String,
    },
    /// An element has another type than it must have.
    #[error("{path} must be {wanted}")]
    WrongType {
        /// Where.
        path: String,
        /// What it must be, with its article.
        wanted: &'static str,
    },
}

impl Document {
    /// How many values may stand inside one another. A DocumentReference needs about ten.
    pub(super) const MAX_DEPTH: usize = 32;
    /// How many values there may be. A DocumentReference has about sixty.
    pub(super) const MAX_NODES: usize = 32_768;

    pub(super) fn read(format: Format, text: &[u8]) -> Result<Self, Fault> {
        match format {
            Format::Json => Self::from_json(text),
            Format::Xml => Self::from_xml(text),
        }
    }

    pub(super) const fn new(root: Node) -> Self {
        Self(root)
    }

    pub(super) const fn root(&self) -> Element<'_> {
        Element {
            node: &self.0,
            path: String::new(),
        }
    }
}

impl Node {
    pub(super) fn of(value: Scalar) -> Self {
        Self {
            value: Some(value),
            children: BTreeMap::new(),
        }
    }

    pub(super) const fn is_value(&self) -> bool {
        self.value.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.value.is_none() && self.children.is_empty()
    }

    pub(super) fn set(&mut self, value: Scalar) {
        self.value = Some(value);
    }

    /// The names that there are.
    pub(super) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.children.keys().map(String::as_str)
    }

    /// Adds what stands under a name. Under one that is there, it stands behind.
    pub(super) fn add(&mut self, name: String, nodes: Vec<Self>, written: Written) {
        match self.children.entry(name) {
            Entry::Vacant(place) => {
                place.insert(Children { nodes, written });
            }
            Entry::Occupied(mut known) => known.get_mut().nodes.extend(nodes),
        }
    }
}

/// Whether the most lenient of parsers would take two names for one.
pub(super) fn is_same_name(one: &str, other: &str) -> bool {
    if one.is_ascii() && other.is_ascii() {
        one.eq_ignore_ascii_case(other)
    } else {
        fold(one).eq(fold(other))
    }
}

/// A name so that those are equal that [`is_same_name`] takes for one.
pub(super) fn folded(name: &str) -> String {
    fold(name).collect()
}

fn fold(name: &str) -> impl Iterator<Item = char> {
    let upper = name.chars().flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase)
}

impl<'a> Element<'a> {
    /// The path of an element in this one, as diagnostics name it.
    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.node.children.contains_key(name)
    }

    /// A text that nothing is added to: an extension of a primitive could say that its value is not what it seems.
    pub(super) fn string(&self, name: &str) -> Result<Option<&'a str>, Fault> {
        let text = self.single(name, "a string", |node| match &node.value {
            Some(Scalar::Text(text)) => Some(text.as_str()),
            _ => None,
        })?;
        let extends = |found: &String| found.strip_prefix('_') == Some(name);
        if text.is_some() && self.node.children.keys().any(extends) {
            return Err(self.wrong(name, "a string without an extension"));
        }
        Ok(text)
    }

    pub(super) fn required_string(&self, name: &str) -> Result<&'a str, Fault> {
        self.string(name)?
            .ok_or_else(|| Fault::Missing(self.path_of(name)))
    }

    /// A whole number that is not negative.
    pub(super) fn whole_number(&self, name: &str) -> Result<Option<u64>, Fault> {
        self.single(name, "a whole number", |node| match &node.value {
            Some(Scalar::Number(number)) => number.as_u64(),
            _ => None,
        })
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, Fault> {
        let Some(children) = self.children(name)? else {
            return Ok(None);
        };
        match children.nodes.as_slice() {
            [node] if children.written != Written::List && !node.is_value() => Ok(Some(Element {
                node,
                path: self.path_of(name),
            })),
            [_, _, ..] if children.written == Written::Elements => Err(Fault::Repeated(self.path_of(name))),
            _ => Err(self.wrong(name, "an object")),
        }
    }

    pub(super) fn required_object(&self, name: &str) -> Result<Self, Fault> {
        self.object(name)?
            .ok_or_else(|| Fault::Missing(self.path_of(name)))
    }

    /// A list of objects; empty if the element is not there. FHIR has no empty arrays, so one that is there has
    /// entries.
    pub(super) fn objects(&self, name: &str) -> Result<Vec<Self>, Fault> {
        let Some(children) = self.children(name)? else {
            return Ok(Vec::new());
        };
        let sound = children.written != Written::One
            && !children.nodes.is_empty()
            && !children.nodes.iter().any(Node::is_value);
        if !sound {
            return Err(self.wrong(name, "an array of objects that is not empty"));
        }
        let path = self.path_of(name);
        let entries = children.nodes.iter().enumerate();
        Ok(entries
            .map(|(index, node)| Element {
                node,
                path: format!("{path}[{index}]"),
            })
            .collect())
    }

    /// A value that is no list, and that has nothing inside.
    fn single<T>(
        &self,
        name: &str,
        wanted: &'static str,
        take: impl FnOnce(&'a Node) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let Some(children) = self.children(name)? else {
            return Ok(None);
        };
        let taken = match children.nodes.as_slice() {
            [node] if children.written != Written::List && node.children.is_empty() => take(node),
            [_, _, ..] if children.written == Written::Elements => {
                return Err(Fault::Repeated(self.path_of(name)));
            }
            _ => None,
        };
        match taken {
            Some(taken) => Ok(Some(taken)),
            None => Err(self.wrong(name, wanted)),
        }
    }

    /// What stands under a name. Where a lenient parser would find something and a strict one nothing, it is refused:
    /// the locator might be the lenient one.
    fn children(&self, name: &str) -> Result<Option<&'a Children>, Fault> {
        if let Some(children) = self.node.children.get(name) {
            return Ok(Some(children));
        }
        let mut names = self.node.children.keys();
        let lookalike = names.find(|found| is_same_name(found, name));
        match lookalike {
            None => Ok(None),
            Some(found) => Err(Fault::Misspelt {
                path: self.path_of(name),
                found: found.clone(),
            }),
        }
    }

    fn wrong(&self, name: &str, wanted: &'static str) -> Fault {
        Fault::WrongType {
            path: self.path_of(name),
            wanted,
        }
    }
}
