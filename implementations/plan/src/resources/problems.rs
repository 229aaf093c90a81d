//! What a resource's validation finds: what the API server's schema and istiod's webhook refuse, in their words, what istiod
//! warns of, and what the plan does not carry out.

use crate::rejected::Refused;

/// The findings for one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems {
    /// Of the CRD's schema.
    pub(crate) schema: Vec<String>,
    /// Of istiod's validating webhook.
    pub(crate) webhook: Vec<String>,
    /// Of the webhook, which accepts the resource nevertheless.
    pub(crate) warnings: Vec<String>,
    /// What istiod accepts and the plan does not carry out.
    pub(crate) unsupported: Vec<String>,
    /// What is passed over because it does not change who opens TLS to what.
    pub(crate) notes: Vec<String>,
}

impl Problems {
    pub(crate) fn error(&mut self, text: impl Into<String>) {
        self.webhook.push(text.into());
    }

    pub(crate) fn schema(&mut self, text: impl Into<String>) {
        self.schema.push(text.into());
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    pub(crate) fn unsupported(&mut self, what: impl Into<String>) {
        self.unsupported.push(what.into());
    }

    /// Notes a field that is passed over, where it is set.
    pub(crate) fn pass_over(&mut self, place: &str, fields: &[(&str, bool)]) {
        for (name, set) in fields {
            if *set {
                self.notes.push(format!("{place}.{name}"));
            }
        }
    }

    /// Notes what a check of one text found.
    pub(crate) fn check(&mut self, result: Result<(), String>) {
        if let Err(text) = result {
            self.error(text);
        }
    }

    /// Why istiod refuses the resource.
    pub(crate) fn refused(&self) -> Option<Refused> {
        let refused = Refused { schema: joined(&self.schema), webhook: several(&self.webhook) };
        (refused.schema.is_some() || refused.webhook.is_some()).then_some(refused)
    }
}

/// As `Aggregate` of `k8s.io/apimachinery` prints it: each text once, several in brackets.
fn joined(texts: &[String]) -> Option<String> {
    let mut distinct: Vec<&str> = Vec::new();
    for text in texts {
        if !distinct.contains(&text.as_str()) {
            distinct.push(text);
        }
    }
    match distinct.as_slice() {
        [] => None,
        [only] => Some((*only).to_owned()),
        several => Some(format!("[{}]", several.join(", "))),
    }
}

/// As `hashicorp/go-multierror` prints it.
pub(crate) fn several(texts: &[String]) -> Option<String> {
    match texts {
        [] => None,
        [only] => Some(only.clone()),
        several => {
            let lines: String = several.iter().map(|t| format!("\t* {t}\n")).collect();
            Some(format!("{} errors occurred:\n{lines}\n", several.len()))
        }
    }
}
