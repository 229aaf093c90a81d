use meshproof_model::kills::KillMatrix;
use meshproof_model::{Report, sample};
use meshproof_render::html;
use serde_json::{Value, json};

use crate::driver::{BrowserPage, with_browser};

/// Members whose values are enum values of the model, not free text.
const WORDS: &[&str] = &["schema", "kind", "side", "verdict", "level", "state", "features", "feature"];

/// The sample with every free text replaced by a hostile string. Each turn gives each field another string;
/// after as many turns as there are strings, every field has had every string.
fn report(turn: usize) -> Report {
    let mut json = serde_json::to_value(sample::report()).unwrap();
    let mut next = turn;
    replace(&mut json, "", &mut next);
    serde_json::from_value(json).unwrap()
}

fn replace(value: &mut Value, key: &str, next: &mut usize) {
    match value {
        Value::String(text) if !WORDS.contains(&key) => {
            // Evidence ids are kept, because evidence that cannot be found is not shown.
            let id = text.starts_with('e') && text.len() < 4;
            if !id {
                sample::HOSTILE_STRINGS[*next % sample::HOSTILE_STRINGS.len()].clone_into(text);
            }
            *next += 1;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, key, next)),
        Value::Object(members) => members.iter_mut().for_each(|(key, member)| replace(member, key, next)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Opens all details, then checks that no script ran, no element escaped from its place, and the layout is
/// intact.
async fn assert_harmless(page: &BrowserPage, turn: usize) {
    page.run("for (const d of document.querySelectorAll('details')) d.open = true").await;
    page.until("return [...document.querySelectorAll('.piece[open] > .details')].every((d) => d.firstChild)")
        .await;
    let facts = page
        .run(
            "const known = new Set(['script', 'style', 'meta', 'title', 'html', 'head', 'body']);\
             return {\
               ran: window.pwned ?? null,\
               title: document.title.endsWith(' – meshproof'),\
               scripts: [...document.scripts].filter((s) => !s.type || s.type !== 'application/octet-stream').length,\
               active: document.querySelectorAll('img, iframe, object, embed, form, base, link, video, audio, math, foreignObject, animate, set, use').length,\
               handlers: [...document.querySelectorAll('*')].filter((e) => [...e.attributes].some((a) => a.name.startsWith('on') || a.name === 'style')).length,\
               links: [...document.querySelectorAll('a[href]')].filter((a) => !/^(https?:|file:)/.test(a.href)).length,\
               outside: [...document.body.children].map((e) => e.tagName).join(' ').replaceAll(/( SCRIPT)+/g, ' SCRIPT'),\
               over: document.documentElement.scrollWidth - document.documentElement.clientWidth,\
             }",
        )
        .await;
    assert_eq!(facts["ran"], Value::Null, "turn {turn}: a script ran");
    assert_eq!(facts["scripts"], json!(1), "turn {turn}");
    for (name, wanted) in [
        ("title", json!(true)),
        ("active", json!(0)),
        ("handlers", json!(0)),
        ("links", json!(0)),
        ("over", json!(0)),
    ] {
        assert_eq!(facts[name], wanted, "turn {turn}: {name}");
    }
    let outside = facts["outside"].as_str().unwrap();
    assert!(
        ["A MAIN SCRIPT", "A MAIN NOSCRIPT SCRIPT", "A MAIN DIALOG DIV NOSCRIPT SCRIPT"].contains(&outside),
        "turn {turn}: {outside}"
    );
    assert_eq!(page.console().await, Vec::<String>::new(), "turn {turn}");
}

#[tokio::test]
async fn hostile_strings_in_a_report_neither_run_nor_break_the_page() {
    with_browser(async |page| {
        for turn in 0..sample::HOSTILE_STRINGS.len() {
            page.look(if turn % 2 == 0 { 1440 } else { 390 }, 900, "light").await;
            page.open(&html::html(&report(turn)), "").await;
            assert_harmless(&page, turn).await;
        }
    })
    .await;
}

#[tokio::test]
async fn hostile_strings_in_a_comparison_neither_run_nor_break_the_page() {
    with_browser(async |page| {
        for turn in 0..sample::HOSTILE_STRINGS.len() {
            page.open(&html::comparison(&[&report(turn), &report(turn + 7)], Some(0), true), "#all=1").await;
            page.run("document.querySelectorAll('#matrix td button')[0].click()").await;
            page.until("return cell.open && sides.querySelector('.pair') !== null").await;
            assert_harmless(&page, turn).await;
        }
    })
    .await;
}

#[tokio::test]
async fn hostile_strings_in_a_kill_matrix_neither_run_nor_break_the_page() {
    with_browser(async |page| {
        for turn in 0..sample::HOSTILE_STRINGS.len() {
            let text =
                |n: usize| sample::HOSTILE_STRINGS[(turn + n) % sample::HOSTILE_STRINGS.len()].to_owned();
            let mut matrix: KillMatrix = sample::kills();
            matrix.checks[0].id = text(0);
            matrix.checks[1].requirement = text(1);
            matrix.saboteurs[0].name = text(2);
            matrix.saboteurs[1].description = text(3);
            page.open(&html::kill_matrix(&matrix), "").await;
            assert_harmless(&page, turn).await;
        }
    })
    .await;
}
