//! `meshproof site`: a static site of many reports.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use meshproof_render::formats::Format;
use meshproof_render::site::{SCHEMA, SiteFile, SiteReport, site};
use meshproof_render::text::plural;

use crate::args;
use crate::dictionary::diagnose_report;
use crate::exit::{self, Refusal};
use crate::output::{OutFolder, answer, complain, write_file};
use crate::reports::read_report;

/// The option that names the folder, for messages.
const OPTION: &str = "--out DIR";
/// The largest summary of a report that is read, in bytes.
const MAX_SUMMARY: u64 = 64 << 20;

/// Adds the reports to the site in the folder and writes its pages anew. Reports that the site has already stay in it.
///
/// # Errors
/// A report cannot be read, or the site cannot be written.
pub fn command(args: &args::Site) -> Result<u8, Refusal> {
    if args.out.join("index.html").exists() && !args.out.join("reports").is_dir() {
        return Err(Refusal::Usage(format!(
            "{} holds an index.html, but no reports of a site: it is something else. Choose another folder with {OPTION}",
            args.out.display()
        )));
    }
    let _checked = OutFolder::open(&args.out)?;
    let mut added = 0;
    for named in &args.reports {
        let mut report = read_report(&named.path)?;
        let entry = SiteReport::of(&report, named.name.as_deref());
        let folder = args.out.join(entry.folder());
        let summary = to_json(&entry)?;
        let is_known =
            fs::read_to_string(folder.join(SiteReport::SUMMARY)).is_ok_and(|known| known == summary);
        if is_known && folder.join(SiteReport::PAGE).is_file() {
            continue;
        }
        diagnose_report(&mut report)?;
        let page = Format::Html.render(&report).map_err(|e| Refusal::Environment(e.to_string()))?;
        create(&folder)?;
        write_file(&folder.join(SiteReport::PAGE), page.as_bytes(), OPTION)?;
        // Last, because a report whose summary is there is complete.
        write_file(&folder.join(SiteReport::SUMMARY), summary.as_bytes(), OPTION)?;
        added += 1;
    }
    let all = stored(&args.out)?;
    if all.is_empty() {
        return Err(Refusal::Usage(format!(
            "{} has no report yet: name at least one report",
            args.out.display()
        )));
    }
    let pages = site(&all);
    remove_others(&args.out, &pages)?;
    for file in pages {
        let path = args.out.join(&file.path);
        if let Some(parent) = path.parent() {
            create(parent)?;
        }
        write_file(&path, file.content.as_bytes(), OPTION)?;
    }
    answer(&format!(
        "{}: {} added, {} in all\n",
        args.out.join("index.html").display(),
        plural(added, "report"),
        all.len()
    ));
    Ok(exit::OK)
}

/// Removes the pages and badges of implementations whose reports are no longer there.
fn remove_others(out: &Path, pages: &[SiteFile]) -> Result<(), Refusal> {
    let folders: BTreeSet<PathBuf> =
        pages.iter().filter_map(|page| Some(out.join(&page.path).parent()?.to_owned())).collect();
    for folder in folders.iter().filter(|folder| *folder != out && folder.is_dir()) {
        let entries = fs::read_dir(folder).map_err(|e| unreadable(folder, &e))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()) {
            if !pages.iter().any(|page| out.join(&page.path) == path) {
                fs::remove_file(&path).map_err(|e| {
                    Refusal::Environment(format!("{} cannot be removed: {e}", path.display()))
                })?;
            }
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::Environment(format!("{} cannot be read: {error}", path.display()))
}

fn to_json(entry: &SiteReport) -> Result<String, Refusal> {
    let text = serde_json::to_string(entry);
    text.map(|t| t + "\n").map_err(|e| Refusal::Environment(format!("the summary cannot be written: {e}")))
}

fn create(folder: &Path) -> Result<(), Refusal> {
    fs::create_dir_all(folder).map_err(|e| {
        Refusal::Environment(format!(
            "{} cannot be created: {e}. Choose another with {OPTION}",
            folder.display()
        ))
    })
}

/// What the site has of its reports. What is not of this version is left alone and named.
fn stored(out: &Path) -> Result<Vec<SiteReport>, Refusal> {
    let folders = |path: &Path| -> Result<Vec<std::path::PathBuf>, Refusal> {
        let entries = fs::read_dir(path).map_err(|e| unreadable(path, &e))?;
        let mut folders: Vec<_> =
            entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_dir()).collect();
        folders.sort();
        Ok(folders)
    };
    let mut all = Vec::new();
    let reports = out.join("reports");
    if !reports.is_dir() {
        return Ok(all);
    }
    for implementation in folders(&reports)? {
        for folder in folders(&implementation)? {
            let path = folder.join(SiteReport::SUMMARY);
            let Ok(size) = fs::metadata(&path).map(|m| m.len()) else { continue };
            let text = (size <= MAX_SUMMARY).then(|| fs::read_to_string(&path).ok()).flatten();
            let entry = text.and_then(|t| serde_json::from_str::<SiteReport>(&t).ok());
            match entry.filter(|e| e.schema == SCHEMA && out.join(e.folder()) == folder) {
                Some(entry) => all.push(entry),
                None => complain(&format!("note: {} is not of this version; it is left out", path.display())),
            }
        }
    }
    Ok(all)
}
