use super::*;

const KEY: &str = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";

fn small() -> Limits {
    Limits { whole: 4000, file: 2000, direction: 8, copied: 500, entries: 20 }
}

fn lines(folder: &Path, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn every_file(folder: &Path) -> Vec<PathBuf> {
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).partition(|p| p.is_dir());
    files.into_iter().chain(folders.iter().flat_map(|f| every_file(f))).collect()
}

#[test]
fn a_connection_has_its_bytes_in_both_directions_up_to_a_limit_and_its_end_has_their_number() {
    let work = tempfile::tempdir().unwrap();
    let trace = Trace::bounded(work.path(), "a:b", small()).unwrap();
    let peer: SocketAddr = "127.0.0.1:7".parse().unwrap();
    let connection = trace.connection(|| "client sleep".to_owned(), None, Some(peer));
    connection.sent(b"GET / ");
    connection.received(b"200");
    connection.sent(b"HTTP/1.1");
    connection.sent(b"more");
    drop(connection);
    let seen: Vec<_> = lines(&work.path().join("a-b"), CONNECTIONS)
        .into_iter()
        .map(|line| {
            assert!(line["at_us"].is_u64() && line["peer"] == "127.0.0.1:7" && line["connection"] == 1);
            let bytes = STANDARD.decode(line["bytes"].as_str().unwrap_or_default()).unwrap();
            let shown = format!("{} {}", line["event"].as_str().unwrap(), String::from_utf8(bytes).unwrap());
            (shown, line["cut"].as_bool().unwrap_or_default(), line["sent_bytes"].as_u64())
        })
        .collect();
    let expected = [("opened ", false, None), ("sent GET / ", false, None), ("received 200", false, None)];
    let end = [("sent HT", true, None), ("closed ", false, Some(18))];
    let expected: Vec<_> = expected.iter().chain(&end).map(|(a, b, c)| ((*a).to_owned(), *b, *c)).collect();
    assert_eq!(seen, expected);
}

#[test]
fn private_keys_are_withheld_in_every_form_of_record() {
    let work = tempfile::tempdir().unwrap();
    let run = work.path().join("run");
    std::fs::create_dir_all(run.join("proxy")).unwrap();
    std::fs::write(run.join("proxy/bootstrap.json"), json!({"key": KEY, "port": 1}).to_string()).unwrap();
    for (number, pad) in ["", "x", "xx"].iter().enumerate() {
        let encoded = STANDARD.encode(format!("{pad}{KEY}"));
        std::fs::write(run.join(format!("secret-{number}.yaml")), encoded).unwrap();
    }
    std::fs::write(run.join("key.der"), [0x30, 0x82, 0xff, 0xfe]).unwrap();
    let trace = Trace::create(&work.path().join("trace"), "s").unwrap();
    trace.copy_files(&run, "1");
    trace.line("notes.log", KEY);
    trace.json("adapter.jsonl", json!({"message": KEY}));
    let files = every_file(&work.path().join("trace"));
    let texts: Vec<String> = files.iter().map(|f| std::fs::read_to_string(f).unwrap()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(texts.iter().all(|text| text.contains("withheld") && !text.contains("c2Vj")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("\"port\":1")), "{texts:?}");
}

#[test]
fn a_file_is_copied_again_only_when_it_has_changed_and_a_large_one_is_named() {
    let work = tempfile::tempdir().unwrap();
    let run = work.path().join("run");
    std::fs::create_dir(&run).unwrap();
    std::fs::write(run.join("a.conf"), "one").unwrap();
    std::fs::write(run.join("b.conf"), "same").unwrap();
    std::fs::write(run.join("large"), "x".repeat(501)).unwrap();
    let trace = Trace::bounded(work.path(), "t", small()).unwrap();
    trace.copy_files(&run, "revision-1");
    std::fs::write(run.join("a.conf"), "two").unwrap();
    trace.copy_files(&run, "revision-2");
    let folder = work.path().join("t");
    let read = |path: &str| std::fs::read_to_string(folder.join(FILES).join(path)).ok();
    assert_eq!(read("revision-1/a.conf").as_deref(), Some("one"));
    assert_eq!(read("revision-2/a.conf").as_deref(), Some("two"));
    assert_eq!(read("revision-2/b.conf"), None);
    let limits = std::fs::read_to_string(folder.join(LIMITS)).unwrap();
    assert!(limits.contains("files/revision-1/large: left out"), "{limits}");
    assert_eq!(trace.problem(), None);
}

#[test]
fn a_file_and_the_whole_trace_stay_within_their_limits() {
    let work = tempfile::tempdir().unwrap();
    let trace = Trace::bounded(work.path(), "t", small()).unwrap();
    for _ in 0..100 {
        for proxy in ["a", "../b", "c"] {
            trace.proxy_log(proxy, &"x".repeat(99));
        }
    }
    let folder = work.path().join("t");
    let sizes: Vec<u64> =
        every_file(&folder.join("proxies")).iter().map(|f| std::fs::metadata(f).unwrap().len()).collect();
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().all(|size| *size <= 2000) && sizes.iter().sum::<u64>() <= 4000, "{sizes:?}");
    let limits = std::fs::read_to_string(folder.join(LIMITS)).unwrap();
    assert_eq!(limits.matches("the end is missing").count(), 3, "{limits}");
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_a_trace_and_a_write_that_fails_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let work = tempfile::tempdir().unwrap();
    let trace = Trace::create(&work.path().join("trace"), "s").unwrap();
    rustls::KeyLog::log(&trace, "CLIENT_RANDOM", &[1, 0xab], &[2]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = work.path().join("trace/s");
    assert_eq!(std::fs::read_to_string(folder.join(KEYS)).unwrap(), "CLIENT_RANDOM 01ab 02\n");
    assert_eq!(
        [mode(&work.path().join("trace")), mode(&folder), mode(&folder.join(KEYS))],
        [0o700, 0o700, 0o600]
    );
    std::fs::write(folder.join("proxies"), "in the way").unwrap();
    trace.proxy_log("a", "line");
    assert!(trace.problem().unwrap().contains("proxies/a.log cannot be written"));
}

#[test]
fn without_a_folder_nothing_is_recorded() {
    let trace = Trace::default();
    trace.line("a", "b");
    trace.copy_files(Path::new("/"), "x");
    trace.connection(|| panic!("it is off"), None, None).sent(b"y");
    assert!(!rustls::KeyLog::will_log(&trace, "CLIENT_RANDOM") && trace.problem().is_none());
}
