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
    /// Why the webhook cannot read the resource at all; then it says nothing else.
    pub(crate) conversion: Option<String>,
    /// Of `webhook`, what istiod prints as a list even where it is alone.
    listed: Vec<String>,
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

    /// A problem that istiod prints as a list of one (`multierror.Append`).
    pub(crate) fn listed(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.listed.push(text.clone());
        self.webhook.push(text);
    }

    /// Why the resource cannot be converted to protocol buffers; of several reasons the first.
    pub(crate) fn conversion(&mut self, text: impl Into<String>) {
        self.conversion.get_or_insert_with(|| format!("convert: {}", text.into()));
    }

    /// istiod's warnings, in one text as it prints several.
    pub(crate) fn all_warnings(&self) -> Option<String> {
        if self.conversion.is_some() { None } else { several(&self.warnings) }
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
        let webhook = match (&self.conversion, self.webhook.as_slice()) {
            (Some(text), _) => Some(text.clone()),
            (None, [only]) if self.listed.contains(only) => {
                Some(format!("1 error occurred:\n\t* {only}\n\n"))
            }
            (None, all) => several(all),
        };
        let refused = Refused { schema: joined(&self.schema), webhook };
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
