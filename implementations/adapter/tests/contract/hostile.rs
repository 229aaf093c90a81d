//! Adapters that break the contract: each ends in words that say how, in time, with nothing left running.

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

/// Starts an adapter that does not survive its start, and returns the words.
async fn at_hello(way: &str, short: impl Into<Option<Timeout>>) -> (Place, String) {
    let place = Place::new();
    let words = gone(place.start(&hostile(way), &timeouts(short)).await);
    assert_ends(place.process("leader.number"));
    (place, words)
}

/// Starts an adapter that does not survive its first plan, and returns the words.
async fn at_apply(way: &str, short: impl Into<Option<Timeout>>) -> (Place, String) {
    let place = Place::new();
    let plane = place.start(&hostile(way), &timeouts(short)).await.unwrap();
    let words = gone(apply(plane.as_ref(), 1).await);
    assert_eq!(gone(plane.settle().await), words, "every later question has the same answer");
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
async fn an_adapter_says_who_it_is() {
    needs_python!();
    let implementation = Adapter::new(&hostile(""), &Timeouts::default()).unwrap().identify().await.unwrap();
    assert_eq!((implementation.name.as_str(), implementation.target.as_str()), ("hostile", "adapter"));
    assert_eq!(implementation.features, [Feature::Sidecar]);
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_the_environments_fault_and_says_how_to_mend_it() {
    for (command, mend) in [("/no/such/adapter", "PATH"), (env!("CARGO_MANIFEST_PATH"), "executable")] {
        let error = Place::new().start(command, &Timeouts::default()).await.err().unwrap();
        let DataPlaneError::Environment(words) = error else { panic!("{error:?}") };
        assert_says(&words, &[command, mend]);
    }
}

#[tokio::test]
async fn a_death_at_hello_is_told_with_status_and_stderr() {
    needs_python!();
    let (place, words) = at_hello("dies-at-hello", None).await;
    assert_says(&words, &["its process ended (exit status: 7)", "no licence found"]);
    assert_says(&place.seen.notes.lock().unwrap().concat(), &["no licence found"]);
}

#[tokio::test]
async fn silence_at_hello_ends_with_the_named_timeout() {
    needs_python!();
    // Longer than the others': the interpreter must have come as far as to note its number.
    let mut timeouts = timeouts(None);
    timeouts.set(Timeout::AdapterHello, Duration::from_secs(2));
    let place = Place::new();
    let words = gone(place.start(&hostile("silent"), &timeouts).await);
    assert_says(&words, &["`hello`", "`adapter-hello` (2s)"]);
    assert_ends(place.process("leader.number"));
}

#[tokio::test]
async fn text_that_is_no_message_is_quoted() {
    needs_python!();
    assert_says(
        &at_hello("garbage", None).await.1,
        &["no message of the contract", "Starting up, please wait..."],
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
    assert_says(&at_hello("invalid-utf8", None).await.1, &["no message of the contract", "invalid unicode"]);
}

#[tokio::test]
async fn another_version_of_the_contract_is_refused() {
    needs_python!();
    assert_says(&at_hello("wrong-contract", None).await.1, &["version 2", "this suite speaks 1"]);
}

#[tokio::test]
async fn a_child_that_is_forked_away_does_not_hide_the_parents_death_and_is_ended() {
    needs_python!();
    let (place, words) = at_hello("daemon-and-exit", None).await;
    assert_says(&words, &["its process ended (exit status: 0)"]);
    assert_ends(place.process("daemon.number"));
}

#[tokio::test]
async fn a_closed_stdout_ends_with_the_named_timeout() {
    needs_python!();
    assert_says(
        &at_hello("closes-stdout", Timeout::AdapterStop).await.1,
        &["closed its stdout", "`adapter-stop` (300ms)"],
    );
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_a_breach() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("unasked"), &Timeouts::default()).await.unwrap();
    // Either it is there before the question, or it is taken for its answer: wrong both ways.
    assert_says(&gone(apply(plane.as_ref(), 1).await), &["`settled`"]);
    plane.stop().await.unwrap();
}

#[tokio::test]
async fn an_adapter_that_does_not_read_ends_with_the_named_timeout() {
    needs_python!();
    assert_says(&at_apply("deaf", Timeout::AdapterAnswer).await.1, &["`apply`", "`adapter-answer` (300ms)"]);
}

#[tokio::test]
async fn a_death_in_the_middle_is_told_with_signal_and_stderr() {
    needs_python!();
    let (place, words) = at_apply("dies-in-the-middle", None).await;
    assert_says(&words, &["signal: 9", "out of luck"]);
    assert_says(&place.seen.notes.lock().unwrap().concat(), &["out of luck"]);
}

#[tokio::test]
async fn silence_in_the_middle_ends_with_the_named_timeout() {
    needs_python!();
    assert_says(
        &at_apply("hangs-in-the-middle", Timeout::AdapterAnswer).await.1,
        &["`adapter-answer` (300ms)"],
    );
}

#[tokio::test]
async fn an_answer_for_another_revision_is_a_breach() {
    needs_python!();
    assert_says(
        &at_apply("wrong-revision", None).await.1,
        &["`apply` of revision 1", "`applied` for revision 2"],
    );
}

#[tokio::test]
async fn a_log_line_of_a_proxy_that_does_not_exist_is_a_breach() {
    needs_python!();
    assert_says(&at_apply("logs-for-a-stranger", None).await.1, &["\"somebody\"", "no proxy of the plan"]);
}

#[tokio::test]
async fn credentials_of_another_proxy_are_a_breach() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("wrong-proxy"), &Timeouts::default()).await.unwrap();
    assert_says(&gone(plane.credentials("sleep").await), &["\"sleep\"", "\"another\""]);
    plane.stop().await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_told_in_the_implementations_words_and_it_goes_on() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("rejects"), &Timeouts::default()).await.unwrap();
    let error = apply(plane.as_ref(), 1).await.unwrap_err();
    assert!(matches!(&error, DataPlaneError::Refused(w) if w == "a listener of mine is taken"), "{error:?}");
    plane.settle().await.unwrap();
    plane.stop().await.unwrap();
}

#[tokio::test]
async fn a_feature_that_is_lacking_is_named_and_one_that_was_declared_is_a_failure() {
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
async fn a_feature_that_nobody_knows_is_the_adapters_fault_and_skips_nothing() {
    needs_python!();
    let misspelt = Adapter::new(&hostile("unknown-feature"), &Timeouts::default()).unwrap();
    let error = misspelt.identify().await.unwrap_err();
    assert!(matches!(error, DataPlaneError::Gone(_)), "{error:?}");
    assert_says(&error.to_string(), &["hello", "egress-gatway", "did you mean egress-gateway"]);
    assert_says(&error.to_string(), &["the features are sidecar, egress-gateway, "]);

    let place = Place::new();
    let plane = place.start(&hostile("unsupported-by-no-known-name"), &Timeouts::default()).await.unwrap();
    let error = apply(plane.as_ref(), 1).await.unwrap_err();
    assert!(matches!(error, DataPlaneError::Gone(_)), "{error:?}");
    assert_says(&error.to_string(), &["unsupported", "mesh-mtl\"", "did you mean mesh-mtls"]);
    assert_says(&error.to_string(), &["the features are sidecar, egress-gateway, "]);
    // It broke the contract, and was ended for it.
    let _ = plane.stop().await;
}

#[tokio::test]
async fn a_key_that_is_told_is_withheld_everywhere() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("tells-keys"), &Timeouts::default()).await.unwrap();
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
async fn a_flood_on_stderr_hinders_nothing() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("floods-stderr"), &Timeouts::default()).await.unwrap();
    apply(plane.as_ref(), 1).await.unwrap();
    plane.stop().await.unwrap();
    assert_says(&place.seen.notes.lock().unwrap().concat(), &["bytes before", "yyyy"]);
}

#[tokio::test]
async fn a_death_between_two_questions_is_told_at_the_stop() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("dies-after-settling"), &Timeouts::default()).await.unwrap();
    plane.settle().await.unwrap();
    assert_ends(place.process("leader.number"));
    assert_says(&gone(plane.stop().await), &["exit"]);
}

#[tokio::test]
async fn a_stop_that_is_ignored_ends_with_the_named_timeout() {
    needs_python!();
    for (way, words) in [
        ("ignores-stop", "did not answer `stop`"),
        ("stays-after-stopped", "did not exit within the timeout `adapter-stop`"),
    ] {
        let place = Place::new();
        let plane = place.start(&hostile(way), &timeouts(Timeout::AdapterStop)).await.unwrap();
        assert_says(&gone(plane.stop().await), &[words, "(300ms)"]);
        assert_ends(place.process("leader.number"));
    }
}

#[tokio::test]
async fn an_exit_without_stopped_is_a_breach() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("exits-without-stopped"), &Timeouts::default()).await.unwrap();
    assert_says(&gone(plane.stop().await), &["exited without answering `stop`"]);
}

#[tokio::test]
async fn what_a_stopped_adapter_leaves_running_is_named_and_ended() {
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
async fn a_question_that_is_given_up_ends_the_adapter_and_not_the_next_answer() {
    needs_python!();
    let place = Place::new();
    let plane = place.start(&hostile("hangs-in-the-middle"), &Timeouts::default()).await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(100), apply(plane.as_ref(), 1)).await;
    assert!(given_up.is_err());
    assert_says(&gone(plane.settle().await), &["had not answered `apply` when the suite stopped waiting"]);
    plane.stop().await.unwrap();
    assert_ends(place.process("leader.number"));
}
