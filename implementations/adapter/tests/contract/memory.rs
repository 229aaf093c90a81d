//! Whatever an adapter writes, the suite's memory stays bounded. Measured in a separate process, because the
//! tests of one process share its memory.

use std::process::Command;

use meshproof_harness::timeouts::Timeouts;

use crate::support::{Place, apply, gone, hostile, installed};

/// In kilobytes.
const MOST: u64 = 128 * 1024;
const WAY: &str = "MESHPROOF_TEST_FLOOD";

/// Runs this test program with one flood and no other test.
fn floods(way: &str) {
    if !installed("python3", "--version") {
        return;
    }
    if !std::path::Path::new("/proc/self/status").exists() {
        println!("skipped: the peak is read from /proc");
        return;
    }
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::one_flood", "--nocapture"])
        .env(WAY, way)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.contains("the peak was"), "the flood did not run: {text}");
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
    let expected = if way == "huge-line" {
        "a line of more than 1048576 bytes"
    } else {
        "more log lines than the contract allows"
    };
    assert!(words.contains(expected), "{words}");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("the peak was {kilobytes} kB");
    assert!(kilobytes < MOST, "{kilobytes} kB");
}
