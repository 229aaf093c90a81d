//! However much an adapter writes, the suite stays small. Measured in a process of its own, because the tests of this one
//! share theirs.

use std::process::Command;

use meshproof_harness::timeouts::Timeouts;

use crate::support::{Place, apply, gone, hostile, installed};

/// In kilobytes.
const MOST: u64 = 128 * 1024;
const WAY: &str = "MESHPROOF_TEST_FLOOD";

/// Runs itself with the flood named, and nothing else.
fn floods(way: &str) {
    if !installed("python3", "--version") {
        return;
    }
    if !std::path::Path::new("/proc/self/status").exists() {
        println!("skipped: without /proc there is no peak to be read");
        return;
    }
    let told = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::one_flood", "--nocapture"])
        .env(WAY, way)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{text}{}", String::from_utf8_lossy(&told.stderr));
    assert!(text.contains("the peak was"), "the flood was not run: {text}");
}

#[test]
fn a_line_of_a_gibibyte_is_refused_in_bounded_memory() {
    floods("huge-line");
}

#[test]
fn a_million_log_lines_are_refused_in_bounded_memory() {
    floods("million-lines");
}

#[test]
fn log_lines_of_half_a_megabyte_are_refused_in_bounded_memory() {
    floods("long-lines");
}

#[tokio::test]
async fn one_flood() {
    let Ok(way) = std::env::var(WAY) else { return };
    let place = Place::new();
    let words = match place.start(&hostile(&way), &Timeouts::default()).await {
        Ok(plane) => {
            let words = gone(apply(plane.as_ref(), 1).await);
            plane.stop().await.unwrap();
            words
        }
        Err(error) => gone::<()>(Err(error)),
    };
    let expected =
        if way == "huge-line" { "a line of more than 1048576 bytes" } else { "it floods the suite" };
    assert!(words.contains(expected), "{words}");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("the peak was {kilobytes} kB");
    assert!(kilobytes < MOST, "{kilobytes} kB");
}
