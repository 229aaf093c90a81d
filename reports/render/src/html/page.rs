//! The frame of a page: one file that contains its style, script and data, and a policy that forbids
//! everything else.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::parts::line;

const STYLE: &str = include_str!("assets/page.css");

/// Functions that every page's script uses.
pub(super) const COMMON: &str = include_str!("assets/common.js");

/// A page.
pub(super) struct HtmlDocument {
    pub(super) title: String,
    /// The page's own script, after [`COMMON`].
    pub(super) script: &'static str,
    pub(super) body: Markup,
    /// Packed evidence, by the `id` of the element that holds it.
    pub(super) data: Vec<(String, String)>,
}

impl HtmlDocument {
    pub(super) fn render(self) -> String {
        let script = format!("{COMMON}\n{}", self.script);
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(policy(&script));
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="referrer" content="no-referrer";
                    meta name="color-scheme" content="light dark";
                    title { (line(&self.title)) " – meshproof" }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    (self.body)
                    // Base64 contains no character that could end an element.
                    @for (id, text) in &self.data { script type="application/octet-stream"
                        id=(id) { (PreEscaped(text)) } }
                    script { (PreEscaped(script)) }
                }
            }
        };
        page.into_string()
    }
}

/// Allows the page's own style and script by their hashes, and nothing else: no images, forms, frames, base
/// address or connections (Content Security Policy Level 3), and no script that turns text into markup
/// (Trusted Types).
fn policy(script: &str) -> String {
    let hash =
        |text: &str| base64::engine::general_purpose::STANDARD.encode(digest(&SHA256, text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action \
            'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash(STYLE),
        hash(script)
    )
}
