//! Adapters that break the contract: each ends in time, with an error that says how, and with nothing left
//! running.

use std::process::Command;
use std::time::Duration;

use meshproof_adapter::Adapter;
use meshproof_harness::feature::Feature;
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_local::data_plane::{DataPlaneError, DataPlaneFactory};

use crate::support::{KEY, Place, apply, assert_ends, gone, hostile, installed, timeouts};

macro_rules! needs_python {
    () => {
        if !installed("python3", "--version") {
            return;
        }
    };
}

/// Starts an adapter that breaks the contract at its start, and returns the error.
async fn at_hello(way: &str, short: impl Into<Option<Timeout>>) -> (Place, String) {
    let place = Place::new();
    let words = gone(place.start(&hostile(way), &timeouts(short)).await);
    assert_ends(place.process("leader.number"));
    (place, words)
}

/// Starts an adapter that breaks the contract at its first plan, and returns the error.
async fn at_apply(way: &str, short: impl Into<Option<Timeout>>) -> (Place, String) {
    let place = Place::new();
    let plane = place.start(&hostile(way), &timeouts(short)).await.unwrap();
    let words = gone(apply(plane.as_ref(), 1).await);
    assert_eq!(gone(plane.settle().await), words, "every later question gets the same error");
    plane.stop().await.unwrap();
    assert_ends(place.process("leader.number"));
    (place, words)
}

#[track_caller]
fn assert_says(words: &str, parts: &[&str]) {
    for part in parts {
        assert!(words.contains(part), "{part:?} is not in: {words}");
    }
}

#[tokio::test]
async fn an_adapter_that_keeps_the_contract_is_asked_and_stopped() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile(""), &Timeouts::default()).await.unwrap();
    apply(plane.as_ref(), 1).await.unwrap();
    apply(plane.as_ref(), 2).await.unwrap();
    plane.settle().await.unwrap();
    assert_eq!(
        place.seen.lines.lock().unwrap().as_slice(),
        [("sleep".to_owned(), "a line before settled".to_owned())]
    );
    assert_eq!(plane.credentials("sleep").await.unwrap(), []);
    plane.stop().await.unwrap();
    assert_ends(place.process("leader.number"));
}

#[tokio::test]
async fn an_adapter_introduces_itself() {
    needs_python!();
    let implementation = Adapter::new(&hostile(""), &Timeouts::default()).unwrap().identify().await.unwrap();
    assert_eq!((implementation.name.as_str(), implementation.target.as_str()), ("hostile", "adapter"));
    assert_eq!(implementation.features, [Feature::Sidecar]);
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_an_environment_error_with_the_fix() {
    for (command, fix) in [("/no/such/adapter", "PATH"), (env!("CARGO_MANIFEST_PATH"), "executable")] {
        let error = Place::new().start(command, &Timeouts::default()).await.err().unwrap();
        let DataPlaneError::Environment(words) = error else { panic!("{error:?}") };
        assert_says(&words, &[command, fix]);
    }
}

#[tokio::test]
async fn an_exit_at_hello_is_reported_with_status_and_stderr() {
    needs_python!();
    let (place, words) = at_hello("dies-at-hello", None).await;
    assert_says(&words, &["its process exited unexpectedly (exit status: 7)", "no licence found"]);
    assert_says(&place.seen.notes.lock().unwrap().concat(), &["no licence found"]);
}

#[tokio::test]
async fn silence_at_hello_is_an_environment_error_with_the_timeout_to_set() {
    needs_python!();
    // Longer than in other tests: the interpreter must have started and noted its number.
    let mut timeouts = timeouts(None);
    timeouts.set(Timeout::AdapterHello, Duration::from_secs(2));
    let adapter = Adapter::new(&hostile("silent"), &timeouts).unwrap();
    let place = Place::new();
    let errors = [
        adapter.identify().await.err().unwrap(),
        place.start(&hostile("silent"), &timeouts).await.err().unwrap(),
    ];
    for error in errors {
        let DataPlaneError::Environment(words) = error else { panic!("{error:?}") };
        assert_says(&words, &["did not answer `hello` within 2s", "--timeout adapter-hello="]);
    }
    assert_ends(place.process("leader.number"));
}

#[tokio::test]
async fn text_that_is_not_a_message_is_quoted() {
    needs_python!();
    assert_says(
        &at_hello("garbage", None).await.1,
        &["not a message of the contract", "Starting up, please wait..."],
    );
}

#[tokio::test]
async fn a_message_of_an_unknown_type_is_named() {
    needs_python!();
    assert_says(&at_hello("unknown-type", None).await.1, &["unknown variant `greetings`"]);
}

#[tokio::test]
async fn bytes_that_are_not_utf_8_are_refused() {
    needs_python!();
    assert_says(
        &at_hello("invalid-utf8", None).await.1,
        &["not a message of the contract", "invalid unicode"],
    );
}

#[tokio::test]
async fn another_version_of_the_contract_is_refused() {
    needs_python!();
    assert_says(&at_hello("wrong-contract", None).await.1, &["version 2", "meshproof uses version 1"]);
}

#[tokio::test]
async fn a_daemon_does_not_hide_its_parents_exit_and_is_ended() {
    needs_python!();
    let (place, words) = at_hello("daemon-and-exit", None).await;
    assert_says(&words, &["its process exited unexpectedly (exit status: 0)"]);
    assert_ends(place.process("daemon.number"));
}

#[tokio::test]
async fn a_closed_stdout_ends_with_the_named_timeout() {
    needs_python!();
    assert_says(
        &at_hello("closes-stdout", Timeout::AdapterStop).await.1,
        &["closed its standard output", "`adapter-stop` (300ms)"],
    );
}

#[tokio::test]
async fn an_answer_without_a_question_breaks_the_contract() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("unasked"), &Timeouts::default()).await.unwrap();
    // The answer arrives before the question, or is taken for its answer. Both are wrong.
    assert_says(&gone(apply(plane.as_ref(), 1).await), &["`settled`"]);
    plane.stop().await.unwrap();
}

#[tokio::test]
async fn an_adapter_that_does_not_read_ends_with_the_named_timeout() {
    needs_python!();
    assert_says(
        &at_apply("deaf", Timeout::AdapterAnswer).await.1,
        &["`apply` within 300ms", "--timeout adapter-answer="],
    );
}

#[tokio::test]
async fn a_crash_is_reported_with_signal_and_stderr() {
    needs_python!();
    let (place, words) = at_apply("dies-in-the-middle", None).await;
    assert_says(&words, &["signal: 9", "out of memory"]);
    assert_says(&place.seen.notes.lock().unwrap().concat(), &["out of memory"]);
}

#[tokio::test]
async fn silence_after_apply_ends_with_the_named_timeout() {
    needs_python!();
    assert_says(&at_apply("hangs-in-the-middle", Timeout::AdapterAnswer).await.1, &["`apply` within 300ms"]);
}

#[tokio::test]
async fn an_answer_for_another_revision_breaks_the_contract() {
    needs_python!();
    assert_says(
        &at_apply("wrong-revision", None).await.1,
        &["`apply` of revision 1", "`applied` for revision 2"],
    );
}

#[tokio::test]
async fn a_log_line_of_an_unknown_proxy_breaks_the_contract() {
    needs_python!();
    assert_says(
        &at_apply("logs-for-another-proxy", None).await.1,
        &["\"another\"", "not a proxy of the plan"],
    );
}

#[tokio::test]
async fn credentials_of_another_proxy_break_the_contract() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("wrong-proxy"), &Timeouts::default()).await.unwrap();
    assert_says(&gone(plane.credentials("sleep").await), &["\"sleep\"", "\"another\""]);
    plane.stop().await.unwrap();
}

#[tokio::test]
async fn a_refusal_keeps_the_implementations_words_and_the_adapter_continues() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("rejects"), &Timeouts::default()).await.unwrap();
    let error = apply(plane.as_ref(), 1).await.unwrap_err();
    assert!(matches!(&error, DataPlaneError::Refused(w) if w == "address already in use"), "{error:?}");
    plane.settle().await.unwrap();
    plane.stop().await.unwrap();
}

#[tokio::test]
async fn a_missing_feature_is_named_and_a_declared_one_is_a_failure() {
    needs_python!();
    for (way, unsupported, words) in [
        ("unsupported", true, "mesh-mtls"),
        ("unsupported-though-declared", false, "declares the feature sidecar"),
    ] {
        let place = Place::new();
        let plane = place.start(&hostile(way), &Timeouts::default()).await.unwrap();
        let error = apply(plane.as_ref(), 1).await.unwrap_err();
        assert_eq!(matches!(error, DataPlaneError::Unsupported(_)), unsupported, "{error:?}");
        assert_says(&error.to_string(), &[words]);
        plane.stop().await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_feature_is_the_adapters_fault_and_skips_nothing() {
    needs_python!();
    let misspelt = Adapter::new(&hostile("unknown-feature"), &Timeouts::default()).unwrap();
    let error = misspelt.identify().await.unwrap_err();
    assert!(matches!(error, DataPlaneError::Gone(_)), "{error:?}");
    assert_says(&error.to_string(), &["hello", "egress-gatway", "did you mean egress-gateway"]);
    assert_says(&error.to_string(), &["the features are sidecar, egress-gateway, "]);

    let place = Place::new();
    let plane =
        place.start(&hostile("unsupported-with-an-unknown-name"), &Timeouts::default()).await.unwrap();
    let error = apply(plane.as_ref(), 1).await.unwrap_err();
    assert!(matches!(error, DataPlaneError::Gone(_)), "{error:?}");
    assert_says(&error.to_string(), &["unsupported", "mesh-mtl\"", "did you mean mesh-mtls"]);
    assert_says(&error.to_string(), &["the features are sidecar, egress-gateway, "]);
    // It was ended because it broke the contract.
    let _ = plane.stop().await;
}

#[tokio::test]
async fn a_key_that_an_adapter_prints_is_withheld_everywhere() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("prints-keys"), &Timeouts::default()).await.unwrap();
    let error = apply(plane.as_ref(), 1).await.unwrap_err().to_string();
    plane.stop().await.unwrap();
    let lines = format!("{:?}", place.seen.lines.lock().unwrap());
    let notes = place.seen.notes.lock().unwrap().concat();
    let secret = KEY.lines().nth(1).unwrap();
    for text in [error, lines, notes] {
        assert!(text.contains("withheld") && !text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn a_flood_on_stderr_does_no_harm() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("floods-stderr"), &Timeouts::default()).await.unwrap();
    apply(plane.as_ref(), 1).await.unwrap();
    plane.stop().await.unwrap();
    assert_says(&place.seen.notes.lock().unwrap().concat(), &["earlier bytes were dropped", "yyyy"]);
}

#[tokio::test]
async fn an_exit_between_two_questions_is_reported_at_the_stop() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("dies-after-settling"), &Timeouts::default()).await.unwrap();
    plane.settle().await.unwrap();
    assert_ends(place.process("leader.number"));
    assert_says(&gone(plane.stop().await), &["exit"]);
}

#[tokio::test]
async fn an_ignored_stop_ends_with_the_named_timeout() {
    needs_python!();
    for (way, words) in [
        ("ignores-stop", "did not answer `stop` within 300ms"),
        ("stays-after-stopped", "did not exit within the timeout `adapter-stop` (300ms)"),
    ] {
        let place = Place::new();
        let plane = place.start(&hostile(way), &timeouts(Timeout::AdapterStop)).await.unwrap();
        assert_says(&gone(plane.stop().await), &[words]);
        assert_ends(place.process("leader.number"));
    }
}

#[tokio::test]
async fn an_exit_without_stopped_breaks_the_contract() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("exits-without-stopped"), &Timeouts::default()).await.unwrap();
    assert_says(&gone(plane.stop().await), &["exited without answering `stop`"]);
}

#[tokio::test]
async fn a_process_that_a_stopped_adapter_leaves_running_is_named_and_ended() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("leaves-daemon"), &timeouts(Timeout::AdapterStop)).await.unwrap();
    let daemon = place.process("daemon.number");
    assert_says(&gone(plane.stop().await), &["left running", &daemon.to_string()]);
    assert_ends(daemon);
}

#[tokio::test]
async fn a_data_plane_that_is_dropped_leaves_nothing_running() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("leaves-daemon"), &Timeouts::default()).await.unwrap();
    drop(plane);
    assert_ends(place.process("leader.number"));
    assert_ends(place.process("daemon.number"));
}

#[tokio::test]
async fn a_cancelled_question_ends_the_adapter_instead_of_confusing_the_next_one() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("hangs-in-the-middle"), &Timeouts::default()).await.unwrap();
    let cancelled = tokio::time::timeout(Duration::from_millis(100), apply(plane.as_ref(), 1)).await;
    assert!(cancelled.is_err());
    assert_says(&gone(plane.settle().await), &["had not answered `apply` when the suite stopped waiting"]);
    plane.stop().await.unwrap();
    assert_ends(place.process("leader.number"));
}

#[tokio::test]
async fn a_hidden_process_that_keeps_stdout_open_is_reported_at_the_stop() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("hides-a-process"), &timeouts(Timeout::AdapterStop)).await.unwrap();
    let hidden = place.process("daemon.number");
    let words = gone(plane.stop().await);
    // The suite cannot identify the process, so the test ends it.
    Command::new("kill").args(["-9", &hidden.to_string()]).status().unwrap();
    assert_says(&words, &["left a process running that holds its standard output open", "stderr"]);
}

/// An adapter could otherwise write escape sequences to the terminal of its user.
#[cfg(unix)]
#[tokio::test]
async fn an_adapter_has_no_terminal() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("opens-the-terminal"), &Timeouts::default()).await.unwrap();
    plane.stop().await.unwrap();
    assert_says(&place.seen.notes.lock().unwrap().concat(), &["no terminal"]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_adapter_leads_a_session_of_its_own() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile(""), &Timeouts::default()).await.unwrap();
    let leader = place.process("leader.number");
    let stat = std::fs::read_to_string(format!("/proc/{leader}/stat")).unwrap();
    // proc(5): after the name come state, parent, process group and session.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    assert_eq!(fields.split(' ').nth(3), Some(leader.to_string().as_str()), "{stat}");
    plane.stop().await.unwrap();
}
