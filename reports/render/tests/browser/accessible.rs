//! Accessibility rules of axe-core. `npm ci` in this folder installs the version in the lock file.

use std::path::Path;

use meshproof_model::sample;
use meshproof_render::html;
use serde_json::Value;

use crate::driver::with_browser;
use crate::pair;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/node_modules/axe-core/axe.min.js");

#[tokio::test]
async fn no_page_has_a_serious_accessibility_violation() {
    let Ok(axe) = std::fs::read_to_string(Path::new(AXE)) else {
        let reason = format!("skipped: {AXE} does not exist. To install it, run `npm ci` in {FOLDER}");
        assert!(std::env::var_os("MESHPROOF_REQUIRE_INSTALLED").is_none_or(|v| v != "1"), "{reason}");
        eprintln!("{reason}");
        return;
    };
    with_browser(async |page| {
        let [good, bad] = pair();
        let pages = [
            ("report", html::html(&sample::report()), ""),
            ("comparison", html::comparison(&[&good, &bad, &sample::report()], Some(0), true), "#all=1"),
            ("evidence", html::comparison(&[&good, &bad], None, true), "#cell=sidecar-origination:target-port/sni-is-host@envoy"),
            ("kills", html::kill_matrix(&sample::kills()), ""),
            ("site", crate::site_page("index.html"), ""),
            ("requirements", crate::site_page("requirements.html"), ""),
            ("history", crate::site_page("implementations/istio-default.html"), ""),
        ];
        for (name, html, hash) in pages {
            for (width, scheme) in [(1440, "light"), (1440, "dark"), (390, "light")] {
                page.look(width, 900, scheme).await;
                page.open(&html, hash).await;
                page.run("for (const d of document.querySelectorAll('details')) d.open = true").await;
                page.run(&axe).await;
                let result = page
                    .run_async("const done = arguments[arguments.length - 1]; axe.run(document, {resultTypes: ['violations']}).then((r) => done(r.violations.map((v) => [v.impact, v.id, v.nodes.length, v.nodes[0].html, v.nodes[0].failureSummary])), (e) => done([['critical', String(e)]]))")
                    .await;
                let serious: Vec<&Value> = result
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|v| v[0] == "serious" || v[0] == "critical")
                    .collect();
                assert!(serious.is_empty(), "{name} at {width} {scheme}: {serious:#?}");
            }
        }
    })
    .await;
}
