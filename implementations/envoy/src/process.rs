//! One Envoy process: starting it, reading what it writes, and ending it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use meshproof_local::child::{ChildWrapper, CommandWrap, in_own_session};
use meshproof_local::data_plane::{DataPlaneError, LogSink};
use tokio::process::Command;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::output::{Output, read_lines};
use crate::program::Program;

/// A running Envoy.
pub(crate) struct EnvoyProcess {
    output: Arc<Output>,
    exit: watch::Receiver<Option<String>>,
    kill: Mutex<Option<oneshot::Sender<()>>>,
    tasks: Vec<JoinHandle<()>>,
    pid_file: PathBuf,
}

impl EnvoyProcess {
    /// Starts Envoy with the bootstrap in `folder`, where it also writes its pid file. Without `logs` its
    /// access log is dropped.
    ///
    /// # Errors
    /// [`DataPlaneError::Environment`]: the process cannot be started on this machine.
    pub(crate) fn start(
        program: &Program,
        proxy: &str,
        folder: &Path,
        logs: Option<Arc<dyn LogSink>>,
    ) -> Result<Self, DataPlaneError> {
        let pid_file = folder.join("envoy.pid");
        let mut child = command(program, folder, &pid_file).spawn().map_err(|e| {
            DataPlaneError::Environment(format!(
                "{} cannot be started: {e}. Check that it runs from a shell",
                program.path.display()
            ))
        })?;
        let output = Arc::new(Output::default());
        let mut tasks = Vec::new();
        if let Some(stdout) = child.stdout().take() {
            let (output, proxy) = (Arc::clone(&output), proxy.to_owned());
            tasks.push(tokio::spawn(async move {
                read_lines(stdout, |line| output.log_line(line, &proxy, logs.as_deref())).await;
            }));
        }
        if let Some(stderr) = child.stderr().take() {
            let output = Arc::clone(&output);
            tasks.push(tokio::spawn(async move { read_lines(stderr, |line| output.message(line)).await }));
        }
        let (kill, killed) = oneshot::channel();
        let (report, exit) = watch::channel(None);
        tasks.push(tokio::spawn(supervise(child, killed, report)));
        Ok(Self { output, exit, kill: Mutex::new(Some(kill)), tasks, pid_file })
    }

    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    /// The exit status, once the process has exited.
    pub(crate) fn exited(&self) -> Option<String> {
        self.exit.borrow().clone()
    }

    /// Waits until the process has exited and returns its exit status.
    pub(crate) async fn exit(&self) -> String {
        let mut exit = self.exit.clone();
        let status = exit.wait_for(Option::is_some).await;
        status
            .ok()
            .and_then(|status| status.clone())
            .unwrap_or_else(|| "its exit was not observed".to_owned())
    }

    /// Ends the process and returns once it has exited.
    pub(crate) async fn stop(&self) {
        let kill = self.kill.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(kill) = kill {
            // It may have exited already.
            let _exited = kill.send(());
        }
        self.exit().await;
        // Without the file nothing is left to find; with it, `meshproof cleanup` sees that the process is
        // gone.
        let _kept = std::fs::remove_file(&self.pid_file);
    }
}

impl Drop for EnvoyProcess {
    fn drop(&mut self) {
        // The child is killed when its supervisor is dropped.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn command(program: &Program, folder: &Path, pid_file: &Path) -> CommandWrap {
    let mut command = Command::new("/bin/sh");
    command
        // The process writes its own pid before it becomes Envoy. Were the suite to write it and be killed
        // first, `meshproof cleanup` could not find Envoy. It recognises the process by the folder in its
        // command line.
        .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
        .arg(pid_file)
        .arg(&program.path)
        .arg("-c")
        .arg(folder.join("bootstrap.json"))
        .arg("--admin-address-path")
        .arg(folder.join("admin"))
        .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"])
        .args(["--drain-time-s", "2", "--drain-strategy", "immediate"])
        .args(&program.flush_arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    in_own_session(command)
}

async fn supervise(
    mut child: Box<dyn ChildWrapper>,
    killed: oneshot::Receiver<()>,
    report: watch::Sender<Option<String>>,
) {
    let status = tokio::select! {
        status = child.wait() => status,
        _ = killed => {
            // It may have exited in the meantime; its status is read either way.
            let _exited = child.start_kill();
            child.wait().await
        }
    };
    let status = status.map_or_else(|e| e.to_string(), |status| status.to_string());
    let _dropped = report.send(Some(status));
}
