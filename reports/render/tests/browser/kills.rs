use meshproof_model::sample;
use meshproof_render::html;
use serde_json::json;

use crate::driver::with_browser;

#[tokio::test]
async fn a_search_for_a_saboteur_shows_its_column_and_the_checks_that_detect_it() {
    with_browser(async |page| {
        page.open(&html::kill_matrix(&sample::kills()), "#q=no-sni").await;
        let rows = "return [...document.querySelectorAll('#matrix tbody tr:not([hidden])')].map((r) => r.cells[0].textContent.trim())";
        assert_eq!(page.run(rows).await, json!(["MUST sidecar-origination/sni-is-host"]));
        let columns = "return [...document.querySelectorAll('#matrix thead th:not([hidden])')].slice(1).map((c) => c.textContent.trim())";
        assert_eq!(page.run(columns).await, json!(["no-sni"]));
    })
    .await;
}

#[tokio::test]
async fn clicking_a_saboteur_shows_its_description_and_the_checks_that_detect_it() {
    with_browser(async |page| {
        page.open(&html::kill_matrix(&sample::kills()), "").await;
        page.run("document.querySelector('[data-to=saboteur-0]').click()").await;
        page.until("return document.getElementById('saboteur-0').open").await;
        let text = page.run("return document.getElementById('saboteur-0').textContent").await;
        assert!(text.as_str().unwrap().contains("sidecar-origination/sni-is-host"), "{text}");
    })
    .await;
}
