use meshproof_model::sample;
use meshproof_render::html;
use serde_json::json;

use crate::driver::with_browser;

#[tokio::test]
async fn a_page_opens_from_disk_and_loads_nothing_else() {
    with_browser(async |page| {
        for html in [
            html::html(&sample::report()),
            html::comparison(&[&sample::report(), &sample::passing()], None, true),
            html::kill_matrix(&sample::kills()),
        ] {
            page.requests().await;
            page.open(&html, "").await;
            let requests = page.requests().await;
            assert!(
                requests
                    .iter()
                    .all(|url| url.starts_with("file://") && url.ends_with("page.html")
                        || url == "about:blank"),
                "{requests:?}"
            );
            assert_eq!(page.console().await, Vec::<String>::new());
        }
    })
    .await;
}

#[tokio::test]
async fn a_link_to_a_check_opens_it_and_its_parents() {
    with_browser(async |page| {
        page.open(&html::html(&sample::report()), "#sidecar-origination:target-port/sni-is-host").await;
        let open = "return document.getElementById('sidecar-origination:target-port/sni-is-host').open";
        assert_eq!(page.run(open).await, json!(true));
        page.until(
            "const box = document.activeElement.getBoundingClientRect();\
             return document.activeElement.tagName === 'SUMMARY' && box.top >= 0 && box.top < innerHeight",
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn evidence_is_unpacked_when_it_is_opened() {
    with_browser(async |page| {
        page.open(&html::html(&sample::report()), "#sidecar-origination:target-port/single-response").await;
        let first = "document.getElementById('sidecar-origination:target-port/single-response').querySelector('details.piece')";
        assert_eq!(page.run(&format!("return {first}.querySelector('.details').textContent")).await, json!(""));
        page.run(&format!("{first}.querySelector('summary').click()")).await;
        page.until(&format!("return {first}.querySelector('.details').textContent.includes('user-agent: meshproof/7f3a91-so.00002')")).await;
        page.until(&format!("return {first}.querySelector('.details').textContent.includes('<h1>Politics</h1>')")).await;
    })
    .await;
}

/// Only the check that shows a cause is complete as markup.
#[tokio::test]
async fn a_check_and_a_change_get_their_content_when_they_are_opened() {
    with_browser(async |page| {
        let mut report = sample::report();
        let check = report.scenarios[0].checks.iter_mut().find(|c| c.id.ends_with("/sni-is-host")).unwrap();
        check.differences = vec![meshproof_model::Difference {
            evidence: meshproof_model::EvidenceId("e7".to_owned()),
            expected: "TLS on port 443".to_owned(),
            seen: "plain text on port 443".to_owned(),
        }];
        check.verdict = meshproof_model::Verdict::Failed;
        let id = "sidecar-origination:target-port/sni-is-host";
        page.open(&html::html(&report), "").await;
        let check = format!("document.getElementById('{id}')");
        assert_eq!(page.run(&format!("return {check}.querySelector('.timeline')")).await, json!(null));
        page.run(&format!("location.hash = '#{id}'")).await;
        for wanted in ["✓ expected", "document", "last change", "● decides", "Repeat this check", "plain text on port 443"] {
            page.until(&format!("return {check}.textContent.includes('{wanted}')")).await;
        }
        page.until(&format!("return {check}.querySelector('li.wrong.lane-s') !== null")).await;
        page.until(&format!("return {check}.querySelector('dd > a').href.startsWith('https://istio.io/')")).await;
        page.run(&format!("{check}.querySelector('a[href^=\"#change-\"]').click()")).await;
        page.until("const c = document.getElementById('change-0-0'); return c.open && c.textContent.includes('mode: SIMPLE') && c.textContent.includes('In force after this change')").await;
        let titles = "return [...document.querySelectorAll('.verdict, .level')].every((w) => w.title)";
        assert_eq!(page.run(titles).await, json!(true));
    })
    .await;
}

#[tokio::test]
async fn a_filter_shows_matching_checks_and_is_part_of_the_address() {
    with_browser(async |page| {
        page.open(&html::html(&sample::report()), "").await;
        page.run("search.value = 'sni'; search.dispatchEvent(new Event('input', {bubbles: true}))").await;
        let shown = "return [...document.querySelectorAll('details.check:not([hidden])')].map((c) => c.id)";
        assert_eq!(page.run(shown).await, json!(["sidecar-origination:target-port/sni-is-host"]));
        assert_eq!(page.run("return location.hash").await, json!("#q=sni"));
        page.open(&html::html(&sample::report()), "#verdict=attention&level=SHOULD").await;
        assert_eq!(page.run(shown).await, json!(["sidecar-origination:target-port/header-hygiene"]));
    })
    .await;
}

#[tokio::test]
async fn a_link_to_a_hidden_check_shows_it() {
    with_browser(async |page| {
        page.open(&html::html(&sample::report()), "#verdict=failed").await;
        let id = "sidecar-origination:target-port/sni-is-host";
        page.run(&format!("location.hash = '#{id}'")).await;
        page.until(&format!("const c = document.getElementById('{id}'); return !c.hidden && c.open")).await;
    })
    .await;
}

#[tokio::test]
async fn clicking_a_term_shows_its_definition() {
    with_browser(async |page| {
        page.open(&html::html(&sample::report()), "").await;
        let tip = "document.getElementById('term-MUST')";
        assert_eq!(page.run(&format!("return {tip}.matches(':popover-open')")).await, json!(false));
        page.run("document.querySelector('[popovertarget=term-MUST]').click()").await;
        page.until(&format!(
            "return {tip}.matches(':popover-open') && {tip}.textContent.includes('RFC 2119')"
        ))
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_page_fits_wide_and_narrow_windows_in_both_colour_schemes() {
    with_browser(async |page| {
        for html in [
            html::html(&sample::report()),
            html::comparison(&[&sample::report(), &sample::passing()], None, true),
            html::kill_matrix(&sample::kills()),
            crate::site_page("index.html"),
            crate::site_page("requirements.html"),
            crate::site_page("implementations/istio-default.html"),
        ] {
            for (width, scheme) in [(1440, "light"), (390, "dark"), (390, "light")] {
                page.look(width, 900, scheme).await;
                page.open(&html, "").await;
                page.run("for (const d of document.querySelectorAll('details')) d.open = true").await;
                let over = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
                let over = page.run(over).await;
                let wide = "return [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth && !e.closest('.scroll, .matrix-scroll')).slice(0, 5).map((e) => e.outerHTML.slice(0, 120))";
                assert_eq!(over, json!(0), "{width} {scheme}: {:#}", page.run(wide).await);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_printed_page_shows_failures_and_hides_controls() {
    with_browser(async |page| {
        page.open(&html::html(&sample::report()), "").await;
        page.devtools("Emulation.setEmulatedMedia", json!({"media": "print"})).await;
        let shown = |what: &str| {
            format!("return getComputedStyle(document.querySelector('{what}')).display !== 'none'")
        };
        assert_eq!(page.run(&shown("#filter")).await, json!(false));
        assert_eq!(page.run(&shown("details.check[data-verdict=failed] .reason")).await, json!(true));
        let pdf = page.command("POST", "/print", json!({})).await;
        assert!(pdf.as_str().unwrap().len() > 10_000);
    })
    .await;
}

#[tokio::test]
async fn without_javascript_the_page_shows_every_verdict_reason_and_headline() {
    with_browser(async |page| {
        page.devtools("Emulation.setScriptExecutionDisabled", json!({"value": true})).await;
        let file = tempfile::Builder::new().suffix(".html").tempfile().unwrap();
        std::fs::write(file.path(), html::html(&sample::report())).unwrap();
        page.command("POST", "/url", json!({"url": format!("file://{}", file.path().display())})).await;
        let source = page.command("GET", "/source", serde_json::Value::Null).await;
        let source = source.as_str().unwrap();
        for wanted in [
            "two responses: 301, then 200",
            "GET http://edition.cnn.com/politics: 301",
            "Without JavaScript, this page shows the causes, and every check with its verdict and reason",
        ] {
            assert!(source.contains(wanted), "{wanted}");
        }
        page.devtools("Emulation.setScriptExecutionDisabled", json!({"value": false})).await;
    })
    .await;
}

#[tokio::test]
async fn on_a_narrow_page_the_picture_is_scrolled_to_the_failing_hop() {
    with_browser(async |page| {
        page.look(390, 844, "light").await;
        page.open(&html::html(&sample::report()), "#sidecar-origination:target-port/sni-is-host").await;
        let seen = "const at = [...document.querySelectorAll('details.check[open] .scroll')].filter((b) => b.querySelector('.failing')).map((b) => {\
            const own = b.querySelector('.failing').getBoundingClientRect(), box = b.getBoundingClientRect();\
            return own.right > box.left + 1 && own.left < box.right - 1 && (b.scrollWidth <= b.clientWidth || getComputedStyle(b).maskImage !== 'none'); });";
        page.until(&format!("{seen} return at.length > 0 && at.every(Boolean)")).await;
    })
    .await;
}
