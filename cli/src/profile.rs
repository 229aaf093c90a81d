//! Profiles of `run` in `meshproof.toml`: options that a project gives once instead of on each command line.
//!
//! A profile's keys are the long names of the options of `run`, and `scenarios` for what is run. What the command line or the
//! environment sets counts more than the profile. Documented in `docs/profiles.md`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use meshproof_model::names::did_you_mean;
use serde::Deserialize;

use crate::exit::Refusal;

/// The file that is read from the working directory if `--config` names none.
pub const FILE: &str = "meshproof.toml";
/// The profile that is used if `--profile` names none.
pub const DEFAULT: &str = "default";
/// The key for the positional arguments.
const SCENARIOS: &str = "scenarios";
/// What chooses the profile cannot be in it.
const CHOICE: [&str; 4] = ["config", "profile", "help", "version"];
/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    #[serde(default)]
    profile: BTreeMap<String, BTreeMap<String, Setting>>,
}

/// The value of one option.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Setting {
    Flag(bool),
    Number(u64),
    Text(String),
    List(Vec<Item>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Item {
    Number(u64),
    Text(String),
}

impl Item {
    fn text(&self) -> String {
        match self {
            Self::Number(n) => n.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// The command line completed by the profile; nothing if there is no profile to use. `command` has parsed `line` to `matches`.
///
/// # Errors
/// The file cannot be read, has an unknown key, or does not have the profile.
pub fn complete(
    command: &Command,
    matches: &ArgMatches,
    line: &[OsString],
) -> Result<Option<Vec<OsString>>, Refusal> {
    let Some(run) = command.find_subcommand("run") else { return Ok(None) };
    let (given, mut completed) = match matches.subcommand() {
        Some(("run", given)) => (Some(given), line.to_vec()),
        Some(_) => return Ok(None),
        None => (None, line.iter().cloned().chain(["run".into()]).collect()),
    };
    let config = given.and_then(|g| g.get_one::<PathBuf>("config"));
    let asked = given.and_then(|g| g.get_one::<String>("profile"));
    let file = config.cloned().unwrap_or_else(|| PathBuf::from(FILE));
    if config.is_none() && !file.is_file() {
        return match asked {
            None => Ok(None),
            Some(profile) => Err(Refusal::Usage(format!(
                "--profile {profile}: there is no {FILE} in this folder. Name the file with --config FILE"
            ))),
        };
    }
    let mut profiles = read(&file, run)?;
    let name = asked.map_or(DEFAULT, String::as_str);
    let Some(profile) = profiles.remove(name) else {
        if asked.is_none() {
            return Ok(None);
        }
        let near = did_you_mean(name, profiles.keys().map(String::as_str));
        return Err(Refusal::Usage(format!("{} has no profile {name:?}{near}", file.display())));
    };
    for (key, setting) in &profile {
        let Some(option) = option(run, key) else { continue };
        let is_given = |id: &str| match given.and_then(|g| g.try_contains_id(id).ok().and(g.value_source(id)))
        {
            Some(ValueSource::CommandLine | ValueSource::EnvVariable) => true,
            Some(_) | None => false,
        };
        let rivals = run.get_arg_conflicts_with(option);
        if is_given(option.get_id().as_str()) || rivals.iter().any(|r| is_given(r.get_id().as_str())) {
            continue;
        }
        completed.extend(words(option, key, setting).map_err(|e| wrong(&file, &e))?);
    }
    Ok(Some(completed))
}

fn wrong(file: &Path, message: &str) -> Refusal {
    Refusal::Usage(format!("{}: {message}", file.display()))
}

/// The profiles of the file. Every key of every profile is known.
fn read(file: &Path, run: &Command) -> Result<BTreeMap<String, BTreeMap<String, Setting>>, Refusal> {
    let size = std::fs::metadata(file).map_err(|e| wrong(file, &format!("cannot be read: {e}")))?.len();
    if size > MAX_BYTES {
        return Err(wrong(file, &format!("has {size} bytes; the limit is {MAX_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(file).map_err(|e| wrong(file, &format!("cannot be read: {e}")))?;
    let table: toml::Table =
        text.parse().map_err(|e: toml::de::Error| wrong(file, e.to_string().trim_end()))?;
    if let Some(key) = table.keys().find(|k| *k != "profile") {
        let near = did_you_mean(key, ["profile"]);
        let hint = "options stand in a profile, for example [profile.default]";
        return Err(wrong(file, &format!("unknown key {key:?}{near}; {hint}")));
    }
    let config: ConfigFile = toml::from_str(&text).map_err(|e| wrong(file, e.to_string().trim_end()))?;
    for (profile, settings) in &config.profile {
        if let Some(key) = settings.keys().find(|key| option(run, key).is_none()) {
            let known: Vec<&str> = run.get_arguments().filter_map(Arg::get_long).chain([SCENARIOS]).collect();
            let known = known.into_iter().filter(|k| !CHOICE.contains(k));
            let near = did_you_mean(key, known);
            let hint = "the keys are the options of `run`, without their dashes";
            return Err(wrong(
                file,
                &format!("unknown key {key:?} in the profile {profile:?}{near}; {hint}"),
            ));
        }
    }
    Ok(config.profile)
}

/// The option that a key sets.
fn option<'c>(run: &'c Command, key: &str) -> Option<&'c Arg> {
    if key == SCENARIOS {
        return run.get_positionals().next();
    }
    run.get_arguments().find(|arg| arg.get_long() == Some(key) && !CHOICE.contains(&key))
}

/// The words of the command line that set the option.
fn words(option: &Arg, key: &str, setting: &Setting) -> Result<Vec<OsString>, String> {
    let takes_value = option.get_action().takes_values();
    let is_counter = matches!(option.get_action(), ArgAction::Count);
    let texts = match setting {
        Setting::Flag(is_on) if !takes_value => {
            return Ok(if *is_on { vec![format!("--{key}").into()] } else { Vec::new() });
        }
        Setting::Number(times) if is_counter && *times <= 2 => {
            return Ok((0..*times).map(|_| format!("--{key}").into()).collect());
        }
        _ if !takes_value => return Err(format!("{key:?} is a switch: its value is true or false")),
        Setting::Flag(_) => return Err(format!("{key:?} needs a value: a text, a number or a list")),
        Setting::Number(number) => vec![number.to_string()],
        Setting::Text(text) => vec![text.clone()],
        Setting::List(items) => items.iter().map(Item::text).collect(),
    };
    Ok(texts
        .into_iter()
        .map(|text| if key == SCENARIOS { text.into() } else { format!("--{key}={text}").into() })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn completed(toml: &str, line: &[&str]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("meshproof.toml");
        std::fs::write(&file, toml).expect("it can be written");
        let mut line: Vec<OsString> = line.iter().map(Into::into).collect();
        line.extend(["--config".into(), file.clone().into()]);
        let command = crate::args::Arguments::command();
        let matches = command.clone().try_get_matches_from(&line).map_err(|e| e.to_string())?;
        let done = complete(&command, &matches, &line);
        let done = done.map_err(|e| e.to_string().replace(&file.display().to_string(), "FILE"))?;
        let words = done.unwrap_or_default();
        let parsed = command.try_get_matches_from(&words);
        parsed.map_err(|e| e.to_string())?;
        Ok(words.iter().skip(line.len()).map(|w| w.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn a_profile_gives_what_the_command_line_does_not() {
        let toml = "[profile.default]\nquiet = true\njobs = 4\ntarget = ['envoy', 'reference']\nscenarios = ['credentials']\n\
                    [profile.ci]\nmin-checks = 600\n";
        let all = ["--jobs=4", "--quiet", "credentials", "--target=envoy", "--target=reference"];
        assert_eq!(completed(toml, &["meshproof", "run"]).expect("complete"), all.map(str::to_owned));
        let few = completed(
            toml,
            &["meshproof", "run", "--jobs", "2", "-v", "--target", "envoy", "tls-verification"],
        );
        assert_eq!(few.expect("complete"), Vec::<String>::new(), "-v excludes quiet");
        let ci = completed(toml, &["meshproof", "run", "--profile", "ci"]).expect("complete");
        assert_eq!(ci, ["--min-checks=600"]);
    }

    #[test]
    fn an_unknown_key_or_profile_is_an_error_with_near_names() {
        for (toml, line, wanted) in [
            (
                "[profile.default]\nmin-check = 3",
                vec![],
                "unknown key \"min-check\" in the profile \"default\"; did you mean min-checks",
            ),
            ("[profiles.ci]\n", vec![], "unknown key \"profiles\"; did you mean profile?"),
            (
                "[profile.strict]\n",
                vec!["--profile", "strickt"],
                "FILE has no profile \"strickt\"; did you mean strict?",
            ),
            ("[profile.default]\nquiet = 'yes'", vec![], "\"quiet\" is a switch"),
            ("[profile.default]\njobs = true", vec![], "\"jobs\" needs a value"),
            ("[profile.default]\nconfig = 'x'", vec![], "unknown key \"config\""),
            ("[profile.default]\njobs = 0", vec![], "0 is not in 1.."),
            ("[profile", vec![], "FILE: "),
        ] {
            let line = [vec!["meshproof", "run"], line].concat();
            let said = completed(toml, &line).expect_err(toml);
            assert!(said.contains(wanted), "{toml}: {said}");
        }
    }
}
