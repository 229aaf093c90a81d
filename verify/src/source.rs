//! The user's files as resources, each with the place where it was written.

use std::collections::BTreeMap;
use std::rc::Rc;

use meshproof_model::verification::Place;
use meshproof_model::{Resource, ResourceId};
use serde_json::Value;

use crate::positions::{self, Node, Position};
use crate::scope::Scope;

/// More than this in one file is no manifest that people write; the reader refuses it before it is parsed.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// A file, or standard input.
#[derive(Clone, Debug)]
pub struct Source {
    /// As people call it.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Whether the file was found in a folder. Then documents that are no Kubernetes resources (values of a chart, a
    /// kustomization) are passed over; in a file that was named they are errors.
    pub found: bool,
}

/// Why the input cannot be read. The message names the file, the place and what to do.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Not YAML.
    #[error(
        "{file} is not valid YAML: {reason}. Correct the line, or leave the file out; a Helm template must be rendered first (helm template)"
    )]
    Yaml {
        /// The file.
        file: String,
        /// With line and column.
        reason: String,
    },
    /// YAML, and not a Kubernetes resource.
    #[error(
        "{at}: {problem}. A Kubernetes resource has apiVersion, kind and metadata.name; add what is missing, or leave the file out"
    )]
    Shape {
        /// Where.
        at: Place,
        /// What is missing.
        problem: String,
    },
    /// Not text.
    #[error("{file} is not text (byte {byte} is {value:#04x}). Leave it out, or save it as UTF-8")]
    Binary {
        /// The file.
        file: String,
        /// Counted from 0.
        byte: usize,
        /// What is there.
        value: u8,
    },
    /// Too large.
    #[error("{file} has more than 64 MiB. Split it")]
    TooLarge {
        /// The file.
        file: String,
    },
    /// No resource at all.
    #[error(
        "{files}: no Kubernetes resource found. Name files or folders that hold manifests (*.yaml, *.yml, *.json)"
    )]
    Nothing {
        /// What was read.
        files: String,
    },
}

/// Where a resource was written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// Of a cluster's resource, its kind, namespace and name.
    file: Rc<str>,
    text: Text,
}

#[derive(Clone, Debug)]
enum Text {
    /// With the place within a List: `/items/3`.
    Yaml(Rc<Node>, String),
    /// Read from a cluster, which has no lines.
    Object(Rc<Value>),
}

impl Written {
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn place(&self, pointer: &str) -> Place {
        let file = self.file.to_string();
        match &self.text {
            Text::Yaml(node, prefix) => {
                let Position { line, column } = node.position(&format!("{prefix}{pointer}"));
                Place { file, line, column, field: String::new() }
            }
            Text::Object(object) => Place { file, line: 0, column: 0, field: field(object, pointer) },
        }
    }

    fn within(&self, suffix: &str) -> Self {
        match &self.text {
            Text::Yaml(node, prefix) => {
                let text = Text::Yaml(Rc::clone(node), format!("{prefix}{suffix}"));
                Self { file: Rc::clone(&self.file), text }
            }
            Text::Object(_) => self.clone(),
        }
    }
}

/// A JSON pointer as people write a field, as far as it leads to something: `spec.ports[0].protocol`.
fn field(object: &Value, pointer: &str) -> String {
    let mut shown = String::new();
    let mut at = object;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let next = match at {
            Value::Object(fields) => fields.get(&token),
            Value::Array(items) => token.parse::<usize>().ok().and_then(|i| items.get(i)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        let Some(next) = next else { break };
        if at.is_array() {
            shown.push_str(&format!("[{token}]"));
        } else if token.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            shown.push_str(if shown.is_empty() { "" } else { "." });
            shown.push_str(&token);
        } else {
            shown.push_str(&format!("[{token:?}]"));
        }
        at = next;
    }
    shown
}

/// What the files hold.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// In the order of the files. Of two with one id the last counts, in the place of the first.
    pub(crate) resources: Vec<Resource>,
    /// The place of each in `resources`.
    numbers: BTreeMap<ResourceId, usize>,
    /// By id; of two of the same id the last one counts, as for `kubectl apply`.
    pub(crate) written: BTreeMap<ResourceId, Written>,
    /// Resources of an id that comes again later, with the place of the later one.
    pub(crate) overwritten: Vec<(ResourceId, Place, Place)>,
    /// Documents that are no resources.
    pub(crate) passed_over: Vec<String>,
    /// What of it is judged.
    pub(crate) scope: Scope,
}

impl Input {
    /// Where a value of a resource was written; for a resource that was not written, nowhere.
    pub(crate) fn place(&self, id: &ResourceId, pointer: &str) -> Place {
        let of_cluster = || Place { file: id.to_string(), ..Place::default() };
        match self.written.get(id) {
            Some(written) => written.place(pointer),
            None if self.scope.namespace.is_some() => of_cluster(),
            None => Place::default(),
        }
    }
}

/// Bytes of a file as text.
///
/// # Errors
/// Too large, or not UTF-8.
pub fn text(file: &str, bytes: Vec<u8>) -> Result<String, InputError> {
    if bytes.len() > MAX_BYTES {
        return Err(InputError::TooLarge { file: file.to_owned() });
    }
    if let Some(byte) = bytes.iter().position(|b| *b == 0) {
        return Err(InputError::Binary { file: file.to_owned(), byte, value: 0 });
    }
    String::from_utf8(bytes).map_err(|e| {
        let byte = e.utf8_error().valid_up_to();
        let value = e.as_bytes().get(byte).copied().unwrap_or_default();
        InputError::Binary { file: file.to_owned(), byte, value }
    })
}

/// The resources that are in force in a cluster for one namespace, as they were read from it.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// The cluster and the namespace, in words.
    pub cluster: String,
    /// The namespace.
    pub namespace: String,
    /// The mesh's resources, Services, pods, and its settings as the ConfigMap `istio`. Of a Secret or another ConfigMap, the names
    /// of its keys.
    pub resources: Vec<Resource>,
    /// Whether all namespaces were read: what is not among the resources does not exist.
    pub whole: bool,
    /// Whether Secrets were read: one that a credential names and that is not among the resources does not exist.
    pub secrets: bool,
    /// What was not read and is taken to be there, in words.
    pub unread: Vec<String>,
}

/// The resources of a cluster, each with its name as its place.
pub(crate) fn in_force(read: &InForce) -> Input {
    let mut input = Input {
        scope: Scope { namespace: Some(read.namespace.clone()), whole: read.whole, secrets: read.secrets },
        ..Input::default()
    };
    for resource in &read.resources {
        let id = resource.id();
        let text = Text::Object(Rc::new(resource.0.clone()));
        input.written.insert(id.clone(), Written { file: id.to_string().into(), text });
        input.resources.push(resource.clone());
    }
    input
}

/// # Errors
/// Something is not YAML or not a resource, or there is no resource at all.
pub(crate) fn read(sources: &[Source]) -> Result<Input, InputError> {
    let mut input = Input::default();
    for source in sources {
        one(source, &mut input)?;
    }
    if input.resources.is_empty() {
        let files: Vec<&str> = sources.iter().map(|s| s.name.as_str()).collect();
        let files = if files.is_empty() { "no file".to_owned() } else { shortened(&files) };
        return Err(InputError::Nothing { files });
    }
    Ok(input)
}

/// Limits for input of some ten thousand resources, and only `true` and `false` as booleans: `y` is a text, also as the value of a
/// Secret.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        budget: serde_saphyr::budget! {
            max_documents: 100_000,
            max_nodes: 5_000_000,
            max_events: 20_000_000,
        },
    }
}

fn shortened(files: &[&str]) -> String {
    match files {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        few => few.join(", "),
    }
}

fn one(source: &Source, input: &mut Input) -> Result<(), InputError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple_with_options(&source.text, options()).map_err(|e| {
            let text = e.to_string();
            // The first line is the reason; a drawing of the source follows.
            let text = text.split(", set DuplicateKeyPolicy").next().unwrap_or(&text);
            let reason = text
                .lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .trim_end_matches([':', '.'])
                .to_owned();
            let place = e.location().map(|l| format!("line {}, column {}: ", l.line(), l.column()));
            let place = place.filter(|_| !reason.contains("line ")).unwrap_or_default();
            InputError::Yaml { file: source.name.clone(), reason: format!("{place}{reason}") }
        })?;
    let file: Rc<str> = source.name.as_str().into();
    // Documents that are empty are left out by the reader of the values or not, depending on what surrounds them.
    let nodes: Vec<Rc<Node>> =
        positions::documents(&source.text).into_iter().filter(|n| !n.is_null()).collect();
    let documents = documents.into_iter().filter(|d| !d.is_null());
    for (index, document) in documents.enumerate() {
        let Some(node) = nodes.get(index).or_else(|| nodes.last()) else { continue };
        let written = Written { file: Rc::clone(&file), text: Text::Yaml(Rc::clone(node), String::new()) };
        add(document, written, source.found, 0, input)?;
    }
    Ok(())
}

/// How deep Lists may be inside Lists.
const MAX_LISTS: usize = 8;

fn add(
    mut document: Value,
    written: Written,
    found: bool,
    depth: usize,
    input: &mut Input,
) -> Result<(), InputError> {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    if kind.ends_with("List") && document.get("items").is_some() {
        let items = document.get_mut("items").map(Value::take);
        let Some(Value::Array(items)) = items.filter(|_| depth < MAX_LISTS) else { return Ok(()) };
        for (index, item) in items.into_iter().enumerate() {
            add(item, written.within(&format!("/items/{index}")), found, depth + 1, input)?;
        }
        return Ok(());
    }
    for pointer in ["/apiVersion", "/kind", "/metadata/name"] {
        if document.pointer(pointer).and_then(Value::as_str).is_none_or(str::is_empty) {
            let field = pointer[1..].replace('/', ".");
            if found {
                let at = written.place("");
                input.passed_over.push(format!("{at}: not a Kubernetes resource (no {field})"));
                return Ok(());
            }
            let problem = format!("`{field}` is missing or not a string");
            return Err(InputError::Shape { at: written.place(pointer), problem });
        }
    }
    if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.entry("namespace").or_insert_with(|| Value::from("default"));
    }
    let resource = Resource(document);
    let place = written.place("");
    let before = input.written.insert(resource.id(), written);
    let known = input.numbers.get(&resource.id()).and_then(|at| input.resources.get_mut(*at));
    match (before, known) {
        // What is applied again keeps its age.
        (Some(before), Some(known)) if group(known) == group(&resource) => {
            input.overwritten.push((resource.id(), before.place(""), place));
            *known = resource;
        }
        _ => {
            input.numbers.insert(resource.id(), input.resources.len());
            input.resources.push(resource);
        }
    }
    Ok(())
}

/// The API group: kinds of two groups may have one name, such as Gateway.
fn group(resource: &Resource) -> &str {
    resource.api_version().split_once('/').map_or("", |(group, _)| group)
}
