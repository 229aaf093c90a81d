//! `catalogue.toml` as it lies in a fixture folder.

use std::collections::BTreeSet;

use meshproof_model::Level;
use serde::Deserialize;

use super::{Catalogue, Check, Configuration, Promise};
use crate::feature::Feature;
use crate::fixtures::Fixtures;

/// The file of a fixture folder that holds the catalogue.
const FILE: &str = "catalogue.toml";

/// Why a catalogue cannot be used. The message names the file and the key.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The folder has none.
    #[error("{folder} has no {FILE}")]
    Missing {
        /// The fixture folder.
        folder: String,
    },
    /// Not TOML, or not a catalogue: a key is unknown, missing, or of another type.
    #[error("{file}: {source}")]
    Syntax {
        /// The catalogue's file.
        file: String,
        /// With line, column and key.
        source: Box<toml::de::Error>,
    },
    /// A catalogue that contradicts itself.
    #[error("{file}: {key}: {problem}")]
    Invalid {
        /// The catalogue's file.
        file: String,
        /// `check "single-response"`.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    title: String,
    #[serde(default)]
    proves: String,
    document: String,
    url: String,
    #[serde(default)]
    features: Vec<Feature>,
    #[serde(rename = "configuration")]
    configurations: Vec<Configuration>,
    #[serde(rename = "check")]
    checks: Vec<Entry>,
    #[serde(default)]
    needs_embedded: bool,
    #[serde(default)]
    live: Vec<Promise>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommonFile {
    #[serde(rename = "check")]
    checks: Vec<Entry>,
}

/// A check as a file has it. With `common`, what is left out comes from the common check of the same id.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    #[serde(default)]
    common: bool,
    level: Option<Level>,
    control: Option<bool>,
    section: Option<String>,
    requirement: Option<String>,
    why: Option<String>,
    observed: Option<String>,
    only_in: Option<Vec<String>>,
    features: Option<Vec<Feature>>,
}

/// Checks that several catalogues share. A catalogue takes one with `common = true`.
#[derive(Clone, Debug, Default)]
pub struct CommonChecks {
    checks: Vec<Entry>,
}

impl CommonChecks {
    /// Reads the checks in `catalogue.toml` of this folder.
    ///
    /// # Errors
    /// The folder has no such file, or it is not a list of checks.
    pub fn read(fixtures: &Fixtures) -> Result<Self, CatalogueError> {
        let (file, text) = file_of(fixtures)?;
        Ok(Self { checks: parse::<CommonFile>(&file, text)?.checks })
    }
}

impl Catalogue {
    /// Reads `catalogue.toml` of a scenario's fixture folder.
    ///
    /// # Errors
    /// The folder has no such file, or it is not a catalogue.
    pub fn read(fixtures: &Fixtures) -> Result<Self, CatalogueError> {
        Self::read_with(fixtures, &CommonChecks::default())
    }

    /// Reads `catalogue.toml` of a scenario's fixture folder, which may take checks from `common`.
    ///
    /// # Errors
    /// The folder has no such file, or it is not a catalogue.
    pub fn read_with(fixtures: &Fixtures, common: &CommonChecks) -> Result<Self, CatalogueError> {
        let (file, text) = file_of(fixtures)?;
        let read: File = parse(&file, text)?;
        let invalid = |key: String, problem: &str| CatalogueError::Invalid {
            file: file.clone(),
            key,
            problem: problem.to_owned(),
        };
        if read.configurations.is_empty() {
            return Err(invalid("configuration".to_owned(), "a scenario has at least one"));
        }
        let known: BTreeSet<&str> = read.configurations.iter().map(|c| c.id.as_str()).collect();
        if known.len() != read.configurations.len() {
            return Err(invalid("configuration".to_owned(), "two have the same id"));
        }
        let mut checks: Vec<Check> = Vec::new();
        for entry in read.checks {
            let key = format!("check {:?}", entry.id);
            let check = resolve(entry, common).map_err(|problem| invalid(key.clone(), &problem))?;
            if checks.iter().any(|c| c.id == check.id) {
                return Err(invalid(key, "two checks have this id"));
            }
            if let Some(unknown) = check.only_in.iter().find(|c| !known.contains(c.as_str())) {
                return Err(invalid(key, &format!("only_in names {unknown:?}, which is no configuration")));
            }
            checks.push(check);
        }
        Ok(Self {
            id: read.id,
            proves: read.proves,
            title: read.title,
            document: read.document,
            url: read.url,
            features: read.features,
            configurations: read.configurations,
            checks,
            needs_embedded: read.needs_embedded,
            live: read.live,
        })
    }
}

fn file_of(fixtures: &Fixtures) -> Result<(String, &str), CatalogueError> {
    match fixtures.file(FILE) {
        Some(text) => Ok((format!("{}/{FILE}", fixtures.place()), text)),
        None => Err(CatalogueError::Missing { folder: fixtures.place().to_owned() }),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(file: &str, text: &str) -> Result<T, CatalogueError> {
    toml::from_str(text)
        .map_err(|source| CatalogueError::Syntax { file: file.to_owned(), source: Box::new(source) })
}

fn resolve(entry: Entry, common: &CommonChecks) -> Result<Check, String> {
    let shared = common.checks.iter().find(|c| c.id == entry.id);
    let shared = match (entry.common, shared) {
        (true, None) => return Err("there is no common check with this id".to_owned()),
        (true, Some(shared)) => Some(shared.clone()),
        (false, _) => None,
    };
    let shared = shared.as_ref();
    let text = |key: &str, own: Option<String>, theirs: Option<&String>| match own.or(theirs.cloned()) {
        Some(text) if !text.trim().is_empty() => Ok(text),
        Some(_) => Err(format!("`{key}` is empty")),
        None => Err(format!("`{key}` is missing")),
    };
    Ok(Check {
        level: entry
            .level
            .or(shared.and_then(|s| s.level))
            .ok_or("`level` is missing (MUST, SHOULD or MAY)")?,
        control: entry.control.or(shared.and_then(|s| s.control)).unwrap_or_default(),
        section: text("section", entry.section, shared.and_then(|s| s.section.as_ref()))?,
        requirement: text("requirement", entry.requirement, shared.and_then(|s| s.requirement.as_ref()))?,
        why: text("why", entry.why, shared.and_then(|s| s.why.as_ref()))?,
        observed: text("observed", entry.observed, shared.and_then(|s| s.observed.as_ref()))?,
        only_in: entry.only_in.or_else(|| shared?.only_in.clone()).unwrap_or_default(),
        features: entry.features.or_else(|| shared?.features.clone()).unwrap_or_default(),
        id: entry.id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "id = \"s\"\ntitle = \"T\"\ndocument = \"D\"\nurl = \"u\"\nfeatures = [\"sidecar\"]\n\
                        [[configuration]]\nid = \"a\"\ntitle = \"A\"\n";
    const CHECK: &str = "[[check]]\nid = \"c\"\nlevel = \"MUST\"\nsection = \"S\"\nrequirement = \"R.\"\nwhy = \"W.\"\n\
                         observed = \"O.\"\n";

    fn folder(text: &str) -> Fixtures {
        Fixtures::embedded("fixtures/s", [(FILE, text.to_owned())])
    }

    fn read(rest: &str) -> Result<Catalogue, String> {
        let common = CommonChecks::read(&folder(CHECK)).map_err(|e| e.to_string())?;
        Catalogue::read_with(&folder(&format!("{HEAD}{rest}")), &common).map_err(|e| e.to_string())
    }

    #[test]
    fn a_catalogue_is_read_with_its_checks_and_their_defaults() {
        let catalogue = read(CHECK).unwrap();
        let check = catalogue.check("c").unwrap();
        assert_eq!((check.level, check.control, check.requirement.as_str()), (Level::Must, false, "R."));
        assert!(check.only_in.is_empty() && check.features.is_empty());
        assert_eq!(catalogue.needs("a").collect::<Vec<_>>(), [Feature::Sidecar]);
    }

    #[test]
    fn a_common_check_is_taken_by_its_id_and_what_the_catalogue_says_replaces_what_it_says() {
        let catalogue =
            read("[[check]]\nid = \"c\"\ncommon = true\nsection = \"Own\"\nlevel = \"MAY\"\n").unwrap();
        let check = catalogue.check("c").unwrap();
        assert_eq!((check.level, check.section.as_str(), check.why.as_str()), (Level::May, "Own", "W."));
    }

    #[test]
    fn every_mistake_is_refused_with_the_file_and_the_key() {
        let only_in = CHECK.replace("level", "only_in = [\"b\"]\nlevel");
        for (rest, words) in [
            (CHECK.replace("why", "wyh"), "unknown field `wyh`"),
            (CHECK.replace("MUST", "OUGHT"), "OUGHT"),
            (CHECK.replace("level", "features = [\"side-car\"]\nlevel"), "side-car"),
            (CHECK.replace("why = \"W.\"\n", ""), "check \"c\": `why` is missing"),
            (CHECK.replace("W.", " "), "check \"c\": `why` is empty"),
            (CHECK.replace("level = \"MUST\"\n", ""), "check \"c\": `level` is missing"),
            (format!("{CHECK}{CHECK}"), "check \"c\": two checks have this id"),
            (only_in, "check \"c\": only_in names \"b\""),
            ("[[check]]\nid = \"d\"\ncommon = true\n".to_owned(), "check \"d\": there is no common check"),
            (
                format!("[[configuration]]\nid = \"a\"\ntitle = \"A\"\n{CHECK}"),
                "configuration: two have the same id",
            ),
        ] {
            let message = read(&rest).unwrap_err();
            assert!(message.starts_with("fixtures/s/catalogue.toml: "), "{message}");
            assert!(message.contains(words), "{words:?} in {message}");
        }
        let empty = Fixtures::embedded("fixtures/s", [("a.yaml", "")]);
        let missing = Catalogue::read(&empty).unwrap_err().to_string();
        assert_eq!(missing, "fixtures/s has no catalogue.toml");
    }
}
