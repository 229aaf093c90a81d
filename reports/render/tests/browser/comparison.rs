use meshproof_model::sample;
use meshproof_render::html;
use serde_json::json;

use crate::driver::{BrowserPage, with_browser};
use crate::pair;

const SHOWN: &str = "return [...document.querySelectorAll('#matrix tbody:not([hidden]) tr:not(.group):not([hidden])')]\
    .map((r) => r.cells[0].querySelector('.level').nextSibling.textContent.trim())";

async fn query(page: &BrowserPage, text: &str) {
    let text = json!(text);
    page.run(&format!("query.value = {text}; query.dispatchEvent(new Event('input', {{bubbles: true}}))"))
        .await;
}

#[tokio::test]
async fn eight_columns_fit_a_window_of_1440_pixels() {
    with_browser(async |page| {
        let [good, bad] = pair();
        let mut skipped = good.clone();
        for check in &mut skipped.scenarios[0].checks {
            check.verdict = meshproof_model::Verdict::Skipped;
            check.feature = Some(meshproof_model::Feature::UpstreamLocalAddress.into());
        }
        let reports = [&good, &bad, &skipped, &good, &bad, &skipped, &good, &bad];
        page.look(1440, 900, "light").await;
        page.open(&html::comparison(&reports, Some(0), true), "#all=1").await;
        let over =
            "const box = document.querySelector('.matrix-scroll'); return box.scrollWidth - box.clientWidth";
        assert_eq!(page.run(over).await, json!(0));
        let seen =
            "return document.querySelector('.matrix').textContent.includes('lacks upstream-local-address')";
        assert_eq!(page.run(seen).await, json!(true));
    })
    .await;
}

#[tokio::test]
async fn only_differences_are_shown_until_all_checks_are_requested() {
    with_browser(async |page| {
        let [good, bad] = pair();
        page.open(&html::comparison(&[&good, &bad], None, true), "").await;
        assert_eq!(page.run(SHOWN).await, json!(["sni-is-host"]));
        page.run("all.click()").await;
        assert_eq!(
            page.run(SHOWN).await,
            json!(["redirect-before-origination", "sni-is-host", "gateway-log-protocol"])
        );
        assert_eq!(page.run("return location.hash").await, json!("#all=1"));
    })
    .await;
}

#[tokio::test]
async fn a_query_shows_the_matching_checks() {
    with_browser(async |page| {
        let [good, bad] = pair();
        page.open(&html::comparison(&[&good, &bad, &sample::report()], None, true), "#all=1").await;
        for (text, wanted) in [
            ("envoy:failed", vec!["sni-is-host"]),
            ("envoy:failed istio:passed level:must", vec!["sni-is-host"]),
            ("envoy:failed istio:failed", vec![]),
            ("envoy:missing level:should", vec!["header-hygiene"]),
            ("any:inconclusive|error", vec!["untrusted-client-refused", "gateway-access-log"]),
            ("all:passed is:control", vec!["redirect-before-origination"]),
            ("scenario:mutual certificate", vec!["client-certificate-presented"]),
            ("scenario:sidecar -level:must", vec!["gateway-log-protocol", "header-hygiene"]),
            ("\"sni-is\"", vec!["sni-is-host"]),
            ("is:different", vec!["sni-is-host"]),
        ] {
            query(&page, text).await;
            let mut shown: Vec<String> = serde_json::from_value(page.run(SHOWN).await).unwrap();
            let mut wanted: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
            shown.sort();
            wanted.sort();
            assert_eq!(shown, wanted, "{text}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_invalid_query_shows_the_error_and_the_valid_values() {
    with_browser(async |page| {
        let [good, bad] = pair();
        page.open(&html::comparison(&[&good, &bad], None, true), "").await;
        for (text, wanted) in [
            ("nginx:passed", "envoy"),
            ("envoy:fine", "inconclusive"),
            ("level:maybe", "should"),
            ("is:odd", "is:regression"),
        ] {
            query(&page, text).await;
            let message = page.run("return problem.textContent").await;
            assert!(message.as_str().unwrap().contains(wanted), "{text}: {message}");
        }
        query(&page, "").await;
        assert_eq!(page.run("return problem.textContent").await, json!(""));
    })
    .await;
}

#[tokio::test]
async fn a_cell_opens_two_columns_of_evidence_with_the_first_divergence_marked() {
    with_browser(async |page| {
        let [good, bad] = pair();
        let html = html::comparison(&[&good, &bad], None, true);
        page.open(&html, "").await;
        page.run("document.querySelector('#matrix tr[data-d] td.failed button').click()").await;
        page.until("return cell.open && sides.querySelectorAll('tr.first').length === 1").await;
        let first = page.run("return sides.querySelector('tr.first').textContent").await;
        assert!(first.as_str().unwrap().starts_with("upstream cluster"), "{first}");
        let shown = page.run("return sides.querySelector('.diverges').textContent").await;
        // The page and the comparison itself show the same text.
        let comparison = meshproof_render::compare::compare(&[&good, &bad], None);
        let cell = comparison.scenarios[0].rows[1].cells[1].clone().unwrap();
        assert_eq!(shown, json!(format!("First divergence: {}", cell.divergence.unwrap().sentence())));
    })
    .await;
}

#[tokio::test]
async fn a_link_shows_the_same_view_and_back_closes_the_evidence() {
    with_browser(async |page| {
        let [good, bad] = pair();
        let html = html::comparison(&[&good, &bad], None, true);
        page.open(&html, "").await;
        query(&page, "envoy:failed").await;
        page.run("document.querySelector('#matrix tr[data-d] td.failed button').click()").await;
        page.until("return cell.open").await;
        let hash = page.run("return location.hash").await.as_str().unwrap().to_owned();
        page.run("history.back()").await;
        page.until("return !cell.open && query.value === 'envoy:failed'").await;
        page.open(&html, &hash).await;
        page.until("return cell.open && sides.querySelectorAll('tr.first').length === 1").await;
        assert_eq!(page.run("return query.value").await, json!("envoy:failed"));
    })
    .await;
}

#[tokio::test]
async fn the_matrix_is_one_tab_stop_and_arrow_keys_move_inside_it() {
    with_browser(async |page| {
        let [good, bad] = pair();
        page.open(&html::comparison(&[&good, &bad], None, true), "#all=1").await;
        assert_eq!(page.run("return document.querySelectorAll('#matrix td button:not([tabindex=\"-1\"])').length").await, json!(1));
        page.run("document.querySelector('#matrix td button').focus()").await;
        let press = |key: &str| {
            format!("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true, cancelable: true}}))")
        };
        page.run(&press("ArrowDown")).await;
        page.run(&press("ArrowRight")).await;
        let at = "return [document.activeElement.closest('tr').rowIndex, document.activeElement.closest('td').cellIndex]";
        assert_eq!(page.run(at).await, json!([3, 2]));
        assert_eq!(page.run("return document.activeElement.textContent.trim()").await, json!("✗ failed"));
    })
    .await;
}

#[tokio::test]
async fn a_comparison_without_evidence_states_this_when_a_cell_is_clicked() {
    with_browser(async |page| {
        let [good, bad] = pair();
        page.open(&html::comparison(&[&good, &bad], None, false), "").await;
        page.run("document.querySelector('#matrix tr[data-d] td.failed button').click()").await;
        page.until("return sides.textContent.includes('this page was created without evidence')").await;
    })
    .await;
}

#[tokio::test]
async fn regressions_and_fixes_are_marked_and_can_be_queried() {
    with_browser(async |page| {
        let [good, bad] = pair();
        page.open(&html::comparison(&[&good, &bad], Some(0), true), "#q=is:regression").await;
        assert_eq!(page.run(SHOWN).await, json!(["sni-is-host"]));
        let text = page.run("return document.querySelector('#matrix .moved').textContent").await;
        assert_eq!(text, json!("▼ regression"));
    })
    .await;
}

#[tokio::test]
async fn the_header_row_stays_visible_below_the_bar_at_every_scroll_position() {
    with_browser(async |page| {
        let reports: Vec<_> = (0..12).map(|_| sample::report()).collect();
        let several = html::comparison(&reports.iter().collect::<Vec<_>>(), None, false);
        let mut kills = sample::kills();
        kills.checks = kills.checks.iter().cycle().take(60).cloned().collect();
        for html in [several, html::kill_matrix(&kills)] {
            for width in [1400, 390] {
                page.look(width, 500, "light").await;
                page.open(&html, "#all=1").await;
                // Adds space below the table, as a long legend does.
                page.run("document.body.style.paddingBottom = '2000px'; const box = document.querySelector('.matrix-scroll'); box.style.height = box.style.maxHeight = '800px'").await;
                page.run("const box = document.querySelector('.matrix-scroll'); scrollTo(0, box.getBoundingClientRect().top + scrollY + 40); box.scrollTop = 60").await;
                page.until(
                    "const head = document.querySelector('#matrix thead th').getBoundingClientRect(), bar = document.getElementById('bar').getBoundingClientRect();\
                     return scrollY > 0 && Math.abs(head.top - bar.bottom) < 2",
                )
                .await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_wide_table_fades_at_its_right_edge_until_it_is_scrolled_to_the_end() {
    with_browser(async |page| {
        let reports: Vec<_> = (0..6).map(|_| sample::report()).collect();
        page.look(390, 844, "light").await;
        page.open(&html::comparison(&reports.iter().collect::<Vec<_>>(), None, false), "#all=1").await;
        let fades = "getComputedStyle(document.querySelector('.matrix-scroll')).maskImage !== 'none'";
        page.until(&format!("return {fades}")).await;
        page.run("document.querySelector('.matrix-scroll').scrollLeft = 1e6").await;
        page.until(&format!("return !({fades})")).await;
    })
    .await;
}

#[tokio::test]
async fn the_field_that_a_check_failed_for_is_marked_before_other_differences() {
    with_browser(async |page| {
        let [good, mut bad] = pair();
        bad.scenarios[0].checks[1].differences = vec![meshproof_model::Difference {
            evidence: meshproof_model::EvidenceId("e4".to_owned()),
            expected: "status 200".to_owned(),
            seen: "status 404".to_owned(),
        }];
        let meshproof_model::Fact::AccessLog(log) = &mut bad.scenarios[0].evidence[3].fact else {
            unreachable!()
        };
        let fields = log.fields.as_mut().unwrap();
        (fields.response_code, fields.method) = (Some(404), Some("PUT".to_owned()));
        page.open(&html::comparison(&[&good, &bad], None, true), "").await;
        page.run("document.querySelector('#matrix tr[data-d] td.failed button').click()").await;
        page.until("return cell.open && sides.querySelectorAll('tr.first').length === 1").await;
        let shown = page.run("return sides.querySelector('.diverges').textContent").await;
        let comparison = meshproof_render::compare::compare(&[&good, &bad], None);
        let divergence = comparison.scenarios[0].rows[1].cells[1].clone().unwrap().divergence.unwrap();
        assert_eq!(divergence.field, "status");
        assert_eq!(shown, json!(format!("First divergence: {}", divergence.sentence())));
    })
    .await;
}
